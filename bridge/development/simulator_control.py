"""Controls of the simulator over HTTP, for other processes: `/control/faults` and `/control/emit`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import aiohttp
import orjson
from aiohttp import web

from bridge.development import simulator_faults as switches
from bridge.development.emission import Emission, NoWebhookError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from bridge.development.simulator_faults import Faults


class ControlledSimulator(Protocol):
    """What can be controlled of a simulator."""

    faults: Faults

    async def emit_many(
        self, events: Iterable[Emission], *, shuffle: int | None = None, repeat: int = 1
    ) -> list[int]:
        """As `Simulator.emit_many`."""


def routes(simulator: ControlledSimulator) -> list[web.RouteDef]:
    """GET and PUT the faults (a PUT sets all of them: missing ones are switched off), and POST events to emit.

    An event is `{"name", "message_id"}`, optionally with `timestamp` and `data`; a batch is `{"events": [...]}`,
    optionally with `shuffle` (a seed) and `repeat`. Both are answered with `{"statuses": [...]}`.
    """

    async def show(_: web.Request) -> web.Response:
        return web.Response(body=switches.faults_json(simulator.faults), content_type="application/json")

    async def switch(request: web.Request) -> web.Response:
        try:
            simulator.faults = switches.read_faults(await request.read())
        except switches.InvalidFaultsError as error:
            return _answer(400, {"error": str(error)})
        return await show(request)

    async def emit(request: web.Request) -> web.Response:
        try:
            asked = orjson.loads(await request.read())
            events = [_emission(event) for event in asked.get("events", [asked])]
            shuffle, repeat = asked.get("shuffle"), int(asked.get("repeat", 1))
        except (KeyError, AttributeError, TypeError, ValueError):
            return _answer(400, {"error": 'not {"name": text, "message_id": integer}, nor {"events": [...]}'})
        try:
            statuses = await simulator.emit_many(events, shuffle=shuffle, repeat=repeat)
        except NoWebhookError as error:
            return _answer(409, {"error": str(error)})
        except (aiohttp.ClientError, TimeoutError) as error:
            return _answer(502, {"error": f"the webhook did not answer: {error}"})
        return _answer(200, {"statuses": statuses})

    return [
        web.get("/control/faults", show),
        web.put("/control/faults", switch),
        web.post("/control/emit", emit),
    ]


def _emission(event: dict[str, Any]) -> Emission:
    return Emission(str(event["name"]), int(event["message_id"]), event.get("timestamp"), event.get("data"))


def _answer(status: int, body: Mapping[str, Any]) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(body), content_type="application/json")
