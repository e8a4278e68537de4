"""What the forms that start a job have in common: their fields, and where to go."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bridge.console.errors import InvalidFieldError
from bridge.console.notices import redirect

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import web
    from multidict import MultiDictProxy

    from bridge.console.jobs import Job


def text_of(form: Mapping[str, object], name: str) -> str:
    """A field that is a text; empty where it is missing, or a file."""
    value = form.get(name, "")
    return value if isinstance(value, str) else ""


def texts_of(form: MultiDictProxy[str | bytes | bytearray | web.FileField], name: str) -> list[str]:
    """A field that may come several times."""
    return [value for value in form.getall(name, []) if isinstance(value, str)]


def rate_of(form: Mapping[str, object], *, least: float, most: float) -> float:
    """How many messages a second, at the most.

    Raises:
        InvalidFieldError: it is no such number.
    """
    try:
        rate = float(text_of(form, "rate"))
    except ValueError:
        rate = 0.0
    if not least <= rate <= most:
        raise InvalidFieldError(
            f"Nothing was changed: the rate is a number from {least:g} to {most:,.0f} a second."
        )
    return rate


def to_job(request: web.Request, job: Job) -> web.Response:
    """On to the page of the job."""
    return redirect(request, f"/jobs/{job.id}")
