"""The simulator is a provider to whoever talks HTTP to it, and can be told to misbehave, from inside and outside."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from bridge.development.emission import Emission, NoWebhookError
from bridge.development.simulator import ApiCall
from bridge.development.simulator_api import TOKEN, serve_simulator
from bridge.development.simulator_faults import UNTIL_SWITCHED_OFF

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bridge.development.simulator import Simulator

pytestmark = pytest.mark.quick

HOOK = "https://bridge.example.org/webhooks/msndr/a-token-of-ours"
DOCUMENTED = (
    b'{"message": {"id": 1}, "event": {"name": "clicked", "timestamp": 1539062173, '
    b'"data": {"url": "https://example.com"}}}'
)
"""The example on the provider's webhook page."""


@dataclass
class Receiver:
    """Whoever the webhook points to."""

    url: str
    bodies: list[bytes]
    types: list[str]
    status: int = 200


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with serve_simulator(messages=3) as served:
        yield served


@pytest.fixture
async def api(simulator: Simulator) -> AsyncIterator[aiohttp.ClientSession]:
    """Somebody with the token, at the API's base URL."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with aiohttp.ClientSession(f"{simulator.base_url}/", headers=headers) as session:
        yield session


@pytest.fixture
async def control(simulator: Simulator) -> AsyncIterator[aiohttp.ClientSession]:
    """Somebody without a token, at the controls."""
    async with aiohttp.ClientSession(simulator.base_url.removesuffix("v1")) as session:
        yield session


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver("", [], [])

    async def receive(request: web.Request) -> web.Response:
        receiver.bodies.append(await request.read())
        receiver.types.append(request.content_type)
        return web.Response(status=receiver.status)

    async with _served(receive) as receiver.url:
        yield receiver


@asynccontextmanager
async def _served(receive: Any) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_post("/hook", receive)
    runner = web.AppRunner(app, shutdown_timeout=0.5)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    finally:
        await runner.cleanup()


async def test_messages_are_there_from_the_start(api: aiohttp.ClientSession) -> None:
    """A seeded message has its number's address, in the provider's shape."""
    async with api.get("email/messages/1") as answer:
        message = await answer.json()
    assert (message["id"], message["to"], message["status"]) == (1, "recipient1@example.org", "queued")
    assert {"from_email", "from_name", "subject", "text", "html", "attachments", "events"} < message.keys()


async def test_a_message_that_is_sent_can_be_looked_up(api: aiohttp.ClientSession) -> None:
    """POST answers the message with the next id, and GET shows the same."""
    sent = {"from_email": "alice@example.org", "to": "bob@example.org", "subject": "Hi", "text": "there"}
    async with api.post("email/messages", json=sent) as answer:
        assert answer.status == 201
        message = await answer.json()
    async with api.get(f"email/messages/{message['id']}") as answer:
        assert await answer.json() == message
    assert message["id"] == 4
    assert sent.items() <= message.items()


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "email/messages", b'{"to": "bob@example.org"}', 422),
        ("POST", "email/messages", b"no json", 400),
        ("POST", "email/webhook", b"{}", 422),
        ("DELETE", "email/webhook", b"{}", 404),
        ("GET", "email/messages/4", b"", 404),
        ("GET", "email/messages/abc", b"", 404),
        ("GET", "email/elsewhere", b"", 404),
    ],
)
async def test_what_cannot_be_done_is_refused(
    api: aiohttp.ClientSession, method: str, path: str, body: bytes, status: int
) -> None:
    """Each bad call gets a 4xx, and the simulator goes on."""
    async with api.request(method, path, data=body) as answer:
        assert answer.status == status
    async with api.get("email/messages/1") as answer:
        assert answer.status == 200


async def test_only_the_right_token_opens_the_api(simulator: Simulator) -> None:
    """Without a token or with another one, every call is 401."""
    async with aiohttp.ClientSession(f"{simulator.base_url}/") as session:
        for headers in ({}, {"Authorization": "Bearer other"}, {"Authorization": TOKEN}):
            async with session.get("email/webhook", headers=headers) as answer:
                assert answer.status == 401


async def test_the_webhook_is_one_url(api: aiohttp.ClientSession) -> None:
    """It is null, then the last one that was posted, and null again after a DELETE of exactly that one."""
    async with api.get("email/webhook") as answer:
        assert await answer.json() == {"url": None}
    for url in ("https://old.example.org/", HOOK):
        async with api.post("email/webhook", json={"url": url}) as answer:
            assert (answer.status, await answer.json()) == (200, {"url": url})
    async with api.delete("email/webhook", json={"url": "https://old.example.org/"}) as answer:
        assert answer.status == 404
    async with api.get("email/webhook") as answer:
        assert await answer.json() == {"url": HOOK}
    async with api.delete("email/webhook", json={"url": HOOK}) as answer:
        assert answer.status == 204
    async with api.get("email/webhook") as answer:
        assert await answer.json() == {"url": None}


async def test_calls_are_recorded_in_their_order(simulator: Simulator, api: aiohttp.ClientSession) -> None:
    """A test can see what was asked, and when, also of a call that was refused."""
    for path in ("email/webhook", "email/messages/1", "email/messages/99"):
        async with api.get(path):
            pass
    assert [(asked.method, asked.path) for asked in simulator.requests] == [
        ("GET", "/v1/email/webhook"),
        ("GET", "/v1/email/messages/1"),
        ("GET", "/v1/email/messages/99"),
    ]
    times = [asked.at for asked in simulator.requests]
    assert times == sorted(times)


@pytest.mark.parametrize(("fault", "status"), [("unauthorized", 401), ("throttle", 429), ("fail", 500)])
async def test_a_fault_lasts_for_its_calls_and_is_over(
    simulator: Simulator, api: aiohttp.ClientSession, fault: str, status: int
) -> None:
    """Switched on for two calls, it spoils two calls; until switched off, all of them."""
    setattr(simulator.faults, fault, 2)
    assert [await _status(api) for _ in range(3)] == [status, status, 200]
    setattr(simulator.faults, fault, UNTIL_SWITCHED_OFF)
    assert [await _status(api) for _ in range(3)] == [status] * 3
    setattr(simulator.faults, fault, 0)
    assert await _status(api) == 200


async def test_too_many_calls_come_with_retry_after(simulator: Simulator, api: aiohttp.ClientSession) -> None:
    """The header is the text that was set, seconds or a date; empty text leaves it out."""
    simulator.faults.throttle = 3
    for text in ("5", "Wed, 21 Oct 2026 07:28:00 GMT", ""):
        simulator.faults.retry_after = text
        async with api.get("email/webhook") as answer:
            assert answer.headers.get("Retry-After", "") == text


async def test_a_reset_cuts_the_connection(simulator: Simulator, api: aiohttp.ClientSession) -> None:
    """The caller gets no answer at all, and the next call is served."""
    simulator.faults.reset = 1
    # A POST, because aiohttp itself repeats a GET.
    with pytest.raises(aiohttp.ClientConnectionError):
        await api.post("email/webhook", json={"url": HOOK})
    assert simulator.webhook_url is None
    assert await _status(api) == 200


async def test_a_slow_answer_holds_nothing_up(simulator: Simulator, api: aiohttp.ClientSession) -> None:
    """Other calls are served meanwhile, and a caller who gives up leaves nothing behind to wait for."""
    simulator.faults.slow = 1
    simulator.faults.slow_seconds = 3600.0
    calls = [asyncio.create_task(_status(api)) for _ in range(2)]
    done, slow = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
    assert ([call.result() for call in done], len(slow)) == ([200], 1)
    for call in slow:
        call.cancel()
    await asyncio.wait(slow)


async def test_a_slow_answer_is_an_answer(simulator: Simulator, api: aiohttp.ClientSession) -> None:
    """After its seconds the call is served as any other."""
    simulator.faults.slow = 1
    simulator.faults.slow_seconds = 0.01
    assert await _status(api) == 200


async def test_each_message_can_be_late(simulator: Simulator, api: aiohttp.ClientSession) -> None:
    """The first look-ups of each message are 404, whatever was asked about others; then it is there."""
    simulator.faults.unknown_lookups = 2
    assert [await _status(api, "email/messages/1") for _ in range(3)] == [404, 404, 200]
    assert [await _status(api, "email/messages/2") for _ in range(3)] == [404, 404, 200]
    simulator.faults.unknown_lookups = UNTIL_SWITCHED_OFF
    assert await _status(api, "email/messages/1") == 404


async def test_messages_can_be_late_until_a_time(simulator: Simulator, api: aiohttp.ClientSession) -> None:
    """Before that time every look-up is 404, after it none."""
    simulator.faults.unknown_until = 4_000_000_000.0
    assert await _status(api, "email/messages/1") == 404
    simulator.faults.unknown_until = 1.0
    assert await _status(api, "email/messages/1") == 200


async def test_an_event_is_posted_as_the_provider_documents_it(
    simulator: Simulator, receiver: Receiver
) -> None:
    """The body is the documented example to the byte, and the answer's status is handed back."""
    simulator.webhook_url = receiver.url
    receiver.status = 503
    status = await simulator.emit("clicked", 1, timestamp=1539062173, data={"url": "https://example.com"})
    assert (receiver.bodies, receiver.types, status) == ([DOCUMENTED], ["application/json"], 503)


async def test_an_event_changes_what_the_provider_says_of_its_message(
    simulator: Simulator, api: aiohttp.ClientSession, receiver: Receiver
) -> None:
    """After a hard bounce the look-up says so, and the body has empty data."""
    await simulator.emit("hard_bounced", 1, timestamp=5, url=receiver.url)
    async with api.get("email/messages/1") as answer:
        assert (await answer.json())["status"] == "hard_bounced"
    assert receiver.bodies == [
        b'{"message": {"id": 1}, "event": {"name": "hard_bounced", "timestamp": 5, "data": {}}}'
    ]


async def test_without_a_webhook_there_is_nowhere_to_post_to(simulator: Simulator) -> None:
    """An event needs a URL that was set, or one of its own."""
    with pytest.raises(NoWebhookError, match="no webhook URL is set"):
        await simulator.emit("opened", 1)


async def test_events_can_be_repeated(simulator: Simulator, receiver: Receiver) -> None:
    """With the fault on, each event comes so many times, the same to the byte."""
    simulator.webhook_url = receiver.url
    simulator.faults.repeat_events = 3
    await simulator.emit("opened", 1)
    assert len(receiver.bodies) == 3
    assert len(set(receiver.bodies)) == 1


async def test_a_batch_can_be_repeated_and_reordered(simulator: Simulator, receiver: Receiver) -> None:
    """Nothing is lost or added by the new order, and the seed gives the same one again."""
    simulator.webhook_url = receiver.url
    batch = [Emission("delivered", number, timestamp=number) for number in range(20)]
    assert await simulator.emit_many(batch) == [200] * 20
    plain = receiver.bodies.copy()
    orders = []
    for _ in range(2):
        receiver.bodies.clear()
        assert await simulator.emit_many(batch, shuffle=7, repeat=2) == [200] * 40
        orders.append(receiver.bodies.copy())
    assert orders[0] == orders[1] != [body for body in plain for _ in range(2)]
    assert sorted(orders[0]) == sorted(plain * 2)


async def test_faults_are_switched_from_outside(
    control: aiohttp.ClientSession, api: aiohttp.ClientSession
) -> None:
    """A PUT sets every switch, what it leaves out is off, and a GET shows what is still to come."""
    async with control.put("control/faults", json={"fail": 2, "retry_after": "9"}) as answer:
        assert answer.status == 200
    assert await _status(api) == 500
    async with control.get("control/faults") as answer:
        faults = await answer.json()
    assert (faults["fail"], faults["retry_after"], faults["slow"]) == (1, "9", 0)
    async with control.put("control/faults", json={}) as answer:
        assert (await answer.json())["fail"] == 0
    assert await _status(api) == 200


@pytest.mark.parametrize(
    ("body", "named"),
    [(b'{"fale": 1}', "fale"), (b'{"fail": "often"}', "fail"), (b'{"slow": -2}', "slow"), (b"[", "the body")],
)
async def test_a_switch_that_does_not_exist_is_refused(
    control: aiohttp.ClientSession, api: aiohttp.ClientSession, body: bytes, named: str
) -> None:
    """The answer names the switch, and nothing is switched."""
    async with control.put("control/faults", data=body) as answer:
        assert answer.status == 400
        assert (await answer.json())["error"].startswith(named)
    assert await _status(api) == 200


async def test_events_are_emitted_from_outside(
    simulator: Simulator, control: aiohttp.ClientSession, receiver: Receiver
) -> None:
    """One event, or a batch with repeats, is posted to the webhook, and its answers are told."""
    simulator.webhook_url = receiver.url
    one = {
        "name": "clicked",
        "message_id": 1,
        "timestamp": 1539062173,
        "data": {"url": "https://example.com"},
    }
    async with control.post("control/emit", json=one) as answer:
        assert await answer.json() == {"statuses": [200]}
    assert receiver.bodies == [DOCUMENTED]
    async with control.post("control/emit", json={"events": [one], "repeat": 2, "shuffle": 1}) as answer:
        assert await answer.json() == {"statuses": [200, 200]}
    assert receiver.bodies == [DOCUMENTED] * 3


@pytest.mark.parametrize(
    ("hook", "body", "status"),
    [
        (None, b'{"name": "opened", "message_id": 1}', 409),
        ("http://127.0.0.1:1/", b'{"name": "opened", "message_id": 1}', 502),
        (HOOK, b'{"name": "opened"}', 400),
        (HOOK, b'{"name": "opened", "message_id": "x"}', 400),
        (HOOK, b'{"events": 7}', 400),
        (HOOK, b"[]", 400),
        (HOOK, b"", 400),
    ],
)
async def test_what_cannot_be_emitted_is_refused(
    simulator: Simulator, control: aiohttp.ClientSession, hook: str | None, body: bytes, status: int
) -> None:
    """No webhook, a webhook that does not answer and a bad request each have their own status."""
    simulator.webhook_url = hook
    async with control.post("control/emit", data=body) as answer:
        assert answer.status == status
        assert (await answer.json())["error"]


async def _status(api: aiohttp.ClientSession, path: str = "email/webhook") -> int:
    async with api.get(path) as answer:
        return answer.status


async def test_the_page_sends_an_event(
    simulator: Simulator, receiver: Receiver, control: aiohttp.ClientSession
) -> None:
    """By a form, without a script; it shows the webhook's answer, and what was called."""
    simulator.webhook_url = receiver.url
    simulator.requests.append(ApiCall("GET", "/v1/email/messages/<b>", 0.0))
    async with control.get("control") as answer:
        shown = await answer.text()
        assert "form-action 'self'" in answer.headers["Content-Security-Policy"]
    assert {f"<option>{name}</option>" in shown for name in ("complined", "opened")} == {True}
    assert receiver.url in shown
    assert "/v1/email/messages/&lt;b&gt;" in shown
    form = {"name": "opened", "message_id": "3", "repeat": "2"}
    async with control.post("control", data=form, headers={"Origin": _origin(simulator)}) as answer:
        assert answer.status == 200
        assert "sent opened of message 3; the webhook&#x27;s answer: 200 (2 times)" in await answer.text()
    assert [json.loads(body)["event"]["name"] for body in receiver.bodies] == ["opened", "opened"]


async def test_the_page_switches_the_faults(simulator: Simulator, control: aiohttp.ClientSession) -> None:
    """It shows those that are on, and what was wrong with a value."""
    async with control.post("control", data={"fail": "2", "retry_after": "7"}) as answer:
        assert 'name="fail" value="2"' in await answer.text()
    assert (simulator.faults.fail, simulator.faults.retry_after) == (2, "7")
    async with control.post("control", data={"fail": "many"}) as answer:
        assert answer.status == 400
        assert "nothing was switched: fail: " in await answer.text()
    assert simulator.faults.fail == 2
    async with control.post("control", data={"fail": "2", "off": ""}) as answer:
        assert answer.status == 200
    assert simulator.faults.fail == 0


@pytest.mark.parametrize(
    ("form", "status"),
    [
        ({"name": "opened", "message_id": "x"}, 400),
        ({"name": "opened", "message_id": "1", "repeat": "0"}, 400),
        ({"name": "opened"}, 400),
        ({"name": "opened", "message_id": "1"}, 409),
    ],
)
async def test_the_page_says_why_it_sends_nothing(
    control: aiohttp.ClientSession, form: dict[str, str], status: int
) -> None:
    """No number, or no webhook to send to."""
    async with control.post("control", data=form) as answer:
        assert answer.status == status
        assert "not sent: " in await answer.text()


async def test_another_sites_page_cannot_use_the_form(
    simulator: Simulator, receiver: Receiver, control: aiohttp.ClientSession
) -> None:
    """A browser says from where a form comes."""
    simulator.webhook_url = receiver.url
    form = {"name": "opened", "message_id": "3"}
    async with control.post("control", data=form, headers={"Origin": "https://evil.example"}) as answer:
        assert answer.status == 403
        assert "refused" in await answer.text()
    assert receiver.bodies == []


def _origin(simulator: Simulator) -> str:
    return str(URL(simulator.base_url).origin())
