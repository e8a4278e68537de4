"""Makes answers of templates, and writes numbers, times and durations in one way."""

from __future__ import annotations

from datetime import UTC, datetime
from http import HTTPStatus
from secrets import token_hex
from typing import TYPE_CHECKING, Any, Final

import aiohttp_jinja2
import jinja2
from markupsafe import Markup

from bridge.console import dependencies
from bridge.console.navigation import ENTRIES, entry_of
from bridge.console.notices import COOKIE as NOTICE
from bridge.console.notices import NOTICES
from bridge.console.sessions import PATH
from bridge.console.visitor import VISITOR

if TYPE_CHECKING:
    from aiohttp import web

    from bridge.console.static_files import StaticFiles

_LATEST: Final = 253_402_300_799
"""The end of the year 9999: no calendar of Python goes further."""
_UNITS: Final = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def set_up(app: web.Application, static: StaticFiles) -> None:
    """Have this application's pages made of bridge/console/templates."""
    environment = aiohttp_jinja2.setup(
        app,
        loader=jinja2.PackageLoader("bridge.console"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        default_helpers=False,
        filters={"number": number, "age": age, "when": when, "minute": minute},
    )
    environment.globals.update(static=static.url, entries=ENTRIES, base=PATH, new_key=token_hex)


def render(
    request: web.Request, template: str, /, *, status: HTTPStatus = HTTPStatus.OK, **context: Any
) -> web.Response:
    """The page, or the fragment where its name begins with an underscore.

    Args:
        request: the one that is answered.
        template: a file in bridge/console/templates.
        status: of the answer.
        context: what the template knows beside `visitor` (None: nobody has signed in), `here` (the entry of the menu or
            None), `notice`, `problems` (of dependencies) and `problems_known`.
    """
    found = dependencies.problems(request)
    notice = "" if template.startswith("_") else request.config_dict[NOTICES].read(request)
    response = aiohttp_jinja2.render_template(
        template,
        request,
        {
            "visitor": request.get(VISITOR),
            "here": entry_of(request.path.removeprefix(PATH) or "/"),
            "notice": notice,
            "problems": found,
            "problems_known": dependencies.fingerprint(found),
        }
        | context,
        status=status,
    )
    if notice:
        response.del_cookie(NOTICE, path=PATH)
    return response


def is_htmx(request: web.Request) -> bool:
    """Whether htmx asks, and for a part of a page: its history asks for whole ones."""
    return (
        request.headers.get("HX-Request") == "true"
        and request.headers.get("HX-History-Restore-Request") != "true"
    )


def number(value: float) -> str:
    """1234567 -> 1,234,567; 12.345 -> 12.3."""
    if isinstance(value, int) or value == int(value):
        return f"{int(value):,}"
    return f"{value:,.1f}" if abs(value) >= 1 else f"{value:.2g}"


def age(seconds: float) -> str:
    """A duration in its two largest units: 93784 -> 1 d 2 h."""
    left = max(round(seconds), 0)
    parts: list[str] = []
    for size, unit in _UNITS:
        if left >= size or (size == 1 and not parts):
            parts.append(f"{left // size} {unit}")
            left %= size
        elif parts:
            break  # 2 h 3 s are 2 h
    return " ".join(parts[:2])


def minute(seconds: float) -> Markup:
    """Unix seconds in a table that says it is UTC: 12 May 2026, 10:31."""
    return _time(seconds, "%b %Y, %H:%M")


def when(seconds: float) -> Markup:
    """Unix seconds as a time that people and programs read: 12 May 2026, 10:31:07 UTC."""
    return _time(seconds, "%b %Y, %H:%M:%S UTC")


def _time(seconds: float, form: str) -> Markup:
    moment = datetime.fromtimestamp(min(max(seconds, 0), _LATEST), UTC)
    return Markup('<time datetime="{}">{}</time>').format(
        moment.strftime("%Y-%m-%dT%H:%M:%SZ"), f"{moment.day} {moment.strftime(form)}"
    )
