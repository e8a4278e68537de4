"""The simulator's page for people, `/control`: send the provider's events, switch its faults, see the calls of its API."""

from __future__ import annotations

from dataclasses import fields
from html import escape
from itertools import islice
from typing import TYPE_CHECKING, Final, Protocol

import aiohttp
import orjson
from aiohttp import web

from bridge import events
from bridge.api import html
from bridge.development import simulator_faults as switches
from bridge.development.emission import Emission, NoWebhookError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from multidict import MultiDictProxy

    from bridge.development.simulator import ApiCall
    from bridge.development.simulator_faults import Faults

    Form = MultiDictProxy[str | bytearray | bytes | web.FileField]

PATH: Final = "/control"
_CALLS: Final = 20
_LARGEST_ID: Final = 2**63 - 1
_MOST_REPEATS: Final = 1000
_NAMES: Final = sorted([*events.KNOWN_NAMES, *events.SPELLINGS])
_FAULTS: Final = {
    "unauthorized": "401, although the token is right",
    "reset": "the connection is reset without an answer",
    "slow": "the answer comes late",
    "slow_seconds": "so many seconds late",
    "throttle": "429, too many calls",
    "retry_after": "its Retry-After: seconds or a date; empty: none",
    "fail": "500",
    "garbage": "200 with a body that is not JSON",
    "unknown_lookups": "404 for the first lookups of each message",
    "unknown_until": "404 for every lookup until then, in Unix seconds",
    "repeat_events": "every event is sent so many times",
}
_HEADERS: Final = html.HEADERS | {
    "Content-Security-Policy": html.HEADERS["Content-Security-Policy"].replace(
        "form-action 'none'", "form-action 'self'"
    ),
    "Referrer-Policy": "same-origin",  # with `no-referrer` a browser does not say that the form is ours
}


class ShownSimulator(Protocol):
    """What the page shows and controls of a simulator."""

    faults: Faults
    webhook_url: str | None

    @property
    def requests(self) -> Collection[ApiCall]:
        """The last calls of the API, the newest last."""

    async def emit_many(
        self, events: Iterable[Emission], *, shuffle: int | None = None, repeat: int = 1
    ) -> list[int]:
        """As `Simulator.emit_many`."""


def routes(simulator: ShownSimulator) -> list[web.RouteDef]:
    """GET the page; POST one of its forms, which is answered with the page and what came of it."""

    async def show(_: web.Request) -> web.Response:
        return _answer(200, simulator, "")

    async def act(request: web.Request) -> web.Response:
        origin = request.headers.get("Origin")
        if origin is not None and origin != str(request.url.origin()):
            return _answer(403, simulator, f"refused: the form is that of another page ({origin})")
        form = await request.post()
        if "name" in form:
            return _answer(*await _sent(simulator, form))
        return _answer(*_switched(simulator, form))

    return [web.get(PATH, show), web.post(PATH, act)]


async def _sent(simulator: ShownSimulator, form: Form) -> tuple[int, ShownSimulator, str]:
    try:
        name, message_id = str(form["name"]), int(str(form["message_id"]))
        repeat = int(str(form.get("repeat", 1)))
    except (KeyError, ValueError):
        return 400, simulator, "not sent: the message's id and the number of times are whole numbers"
    if not 0 <= message_id <= _LARGEST_ID or not 1 <= repeat <= _MOST_REPEATS:
        return 400, simulator, f"not sent: an id from 0, at most {_MOST_REPEATS:,} times"
    try:
        statuses = await simulator.emit_many([Emission(name, message_id)], repeat=repeat)
    except NoWebhookError as error:
        return 409, simulator, f"not sent: {error}"
    except (aiohttp.ClientError, TimeoutError) as error:
        return 502, simulator, f"the webhook did not answer: {error}"
    answers = ", ".join(f"{status} ({statuses.count(status)} times)" for status in sorted(set(statuses)))
    return 200, simulator, f"sent {name} of message {message_id}; the webhook's answer: {answers}"


def _switched(simulator: ShownSimulator, form: Form) -> tuple[int, ShownSimulator, str]:
    asked = {} if "off" in form else {name: str(value) for name, value in form.items()}
    try:
        simulator.faults = switches.read_faults(orjson.dumps(asked))
    except switches.InvalidFaultsError as error:
        return 400, simulator, f"nothing was switched: {error}"
    return 200, simulator, "all faults are off" if "off" in form else "switched"


def _answer(status: int, simulator: ShownSimulator, said: str) -> web.Response:
    webhook = simulator.webhook_url
    body = (
        "<h1>The simulated provider</h1>"
        + (f'<p role="status"><strong>{escape(said)}</strong></p>' if said else "")
        + (
            f"<p>Its webhook is <code>{escape(webhook)}</code>.</p>"
            if webhook
            else "<p>No webhook is set.</p>"
        )
        + f"<h2>Send an event</h2>{_event_form()}"
        + "<h2>Faults of its API</h2><p>The number of calls that a fault affects: 0 is off, -1 until it is switched "
        + f"off.</p>{_fault_form(simulator.faults)}"
        + f"<h2>Last calls of its API</h2>{_calls(simulator)}"
    )
    return web.Response(
        status=status,
        text=html.whole_page("The simulated provider", body),
        content_type="text/html",
        headers=_HEADERS,
    )


def _event_form() -> str:
    options = "".join(
        f"<option{' selected' if name == events.HARD_BOUNCED else ''}>{name}</option>" for name in _NAMES
    )
    return (
        f'<form method="post" action="{PATH}"><p>'
        f'<label>Event <select name="name">{options}</select></label> '
        f'<label>of message <input name="message_id" type="number" min="0" value="1" required></label> '
        f'<label>times <input name="repeat" type="number" min="1" max="{_MOST_REPEATS}" value="1" required></label> '
        "<button>Send</button></p></form>"
    )


def _fault_form(faults: Faults) -> str:
    rows = [
        (
            f'<label for="{one.name}">{one.name}</label>',
            f'<input id="{one.name}" name="{one.name}" value="{escape(str(getattr(faults, one.name)))}">',
            _FAULTS[one.name],
        )
        for one in fields(faults)
        if one.init
    ]
    return (
        f'<form method="post" action="{PATH}">{html.table(("fault", "value", "what it does"), rows)}'
        '<p><button>Switch</button> <button name="off">All off</button></p></form>'
    )


def _calls(simulator: ShownSimulator) -> str:
    newest = list(islice(reversed(list(simulator.requests)), _CALLS))
    if not newest:
        return "<p>None yet.</p>"
    rows = [(escape(call.method), f"<code>{escape(call.path)}</code>") for call in newest]
    return html.table(("method", "path"), rows)
