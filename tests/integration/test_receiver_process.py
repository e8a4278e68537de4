"""The receiver as a real process: from a POST to the queue, and its orderly end."""

from __future__ import annotations

import asyncio
import signal
import socket
from typing import TYPE_CHECKING, Any

import aiohttp

from bridge.receiver.body import MAX_BODY
from tests.conftest import TOKEN
from tests.support.ports import free_port
from tests.support.proxy import Proxy
from tests.support.wire import TOO_LARGE, Wire, ask, chunked, head, post

if TYPE_CHECKING:
    from tests.support.processes import Process, Processes
    from tests.support.rabbit import Rabbit

BODY = b'{"message": {"id": 1}, "event": {"name": "clicked", "timestamp": 1539062173, "data": {"url": "https://example.com"}}}'


async def test_an_event_that_was_answered_200_is_in_the_queue_with_the_providers_bytes(
    processes: Processes, overrides: dict[str, Any], rabbit: Rabbit
) -> None:
    """The provider's documented body is confirmed, and arrives untouched under its event's name."""
    receiver = await processes.start("receiver", overrides=overrides)
    port = (await receiver.says("receiver.started"))["port"]
    await receiver.says("broker.connected")
    async with rabbit.listening(rabbit.names.events, "clicked") as clicked, aiohttp.ClientSession() as http:
        async with http.post(f"http://127.0.0.1:{port}/webhooks/msndr/{TOKEN}", data=BODY) as answer:
            assert answer.status == 200
            assert (await answer.json())["durability"] == "confirmed"
        assert (await clicked.next()).body == BODY
    receiver.send(signal.SIGTERM)
    assert await receiver.ended() == 0


async def test_sigterm_lets_running_requests_end_with_their_answer(
    processes: Processes, overrides: dict[str, Any], rabbit: Rabbit
) -> None:
    """Every POST in flight at SIGTERM is answered, and what was answered 200 is in the queue."""
    receiver = await processes.start("receiver", overrides=overrides)
    port = (await receiver.says("receiver.started"))["port"]
    await receiver.says("broker.connected")
    async with rabbit.listening(rabbit.names.events, "#") as everything, aiohttp.ClientSession() as http:

        async def post(number: int) -> str | None:
            body = {"message": {"id": number}, "event": {"name": "opened", "timestamp": number}}
            try:
                async with http.post(f"http://127.0.0.1:{port}/webhooks/msndr/{TOKEN}", json=body) as answer:
                    return str((await answer.json())["id"]) if answer.status == 200 else None
            except aiohttp.ClientConnectionError:
                return None

        posts = [asyncio.create_task(post(number)) for number in range(500)]
        await everything.next()
        receiver.send(signal.SIGTERM)
        accepted = {event_id for event_id in await asyncio.gather(*posts) if event_id}
        assert await receiver.ended() == 0
        arrived = {(await everything.next()).message_id for _ in range(len(accepted) - 1)}
        assert len(accepted - arrived) <= 1, "one was taken to see that posting had begun"


async def test_bad_input_of_every_kind_leaves_the_process_as_it_was(
    processes: Processes, overrides: dict[str, Any], rabbit: Rabbit
) -> None:
    """Each has its answer on the event loop that is used in production, and after each an event is confirmed."""
    assert rabbit
    # Two are to be too slow, and none of the others is while the machine is busy.
    overrides["receiver"] |= {"body_timeout": 4.0, "head_timeout": 4.0}
    receiver, port = await started(processes, overrides)
    whole = [
        (post(b""), "400 Bad Request"),
        (post(b"no event"), "400 Bad Request"),
        (post(b"[]"), "200 OK"),
        (post(BODY, token="not-a-token-of-ours"), "404 Not Found"),
        (head("DELETE"), "405 Method Not Allowed"),
        (post(BODY.ljust(MAX_BODY + 1)), TOO_LARGE),
        (chunked(BODY.ljust(MAX_BODY), b" "), TOO_LARGE),
        (head("POST", "Content-Length: 10"), "408 Request Timeout"),
        (head("POST", "Transfer-Encoding: chunked") + b"zz\r\n", "400 Bad Request"),
        (b"\x16\x03\x01 hello\r\n\r\n", "400 Bad Request"),
    ]
    for request, status in whole:
        answer = await ask(port, request)
        assert answer.status_line.partition(" ")[2] == status
        assert (await ask(port, post(BODY))).json["durability"] == "confirmed"
    async with Wire.to(port) as wire:
        wire.send(head("POST", "Transfer-Encoding: chunked", "Expect: 100-continue"))
        assert (await wire.answer()).status_line == "HTTP/1.1 100 Continue"
        wire.send(b"1\r\n{\r\nzz\r\n")
        assert (await wire.answer()).status_line == "HTTP/1.1 400 Bad Request"
        assert await wire.rest() == b""
    async with Wire.to(port) as slow, Wire.to(port) as gone:
        slow.send(head("POST")[:30])
        gone.send(head("POST", "Content-Length: 10"), b"{")
        gone.reset()
        assert await slow.rest() == b""
    assert (await ask(port, post(BODY))).json["durability"] == "confirmed"
    receiver.send(signal.SIGTERM)
    assert await receiver.ended() == 0
    of_a_slow_disk = '"spool.stalled"'
    lines = [line for line in receiver.lines if of_a_slow_disk not in line]
    assert not [line for line in lines if '"error"' in line or not line.startswith("{")]


async def test_it_starts_without_a_broker_and_takes_events_once_there_is_one(
    processes: Processes, overrides: dict[str, Any], rabbit: Rabbit, amqp_url: str
) -> None:
    """They are spooled until then, and drained after it; nobody has to start it again."""
    assert rabbit
    async with Proxy.serve(amqp_url) as proxy:
        proxy.refuse()
        overrides["rabbitmq"]["urls"] = [proxy.url(amqp_url)]
        receiver = await processes.start("receiver", overrides=overrides)
        port = (await receiver.says("receiver.started"))["port"]
        await receiver.says("broker.retry")
        assert (await ask(port, post(BODY))).json["durability"] == "spooled"
        proxy.accept()
        await receiver.says("broker.connected")
        await receiver.says("spool.drained", entries=1)
        assert (await ask(port, post(BODY))).json["durability"] == "confirmed"
        receiver.send(signal.SIGTERM)
        assert await receiver.ended() == 0


async def test_sigterm_waits_for_the_confirm_of_what_is_in_flight(
    processes: Processes, overrides: dict[str, Any], rabbit: Rabbit, amqp_url: str
) -> None:
    """It is told to stop between the publish and its confirm: the confirm comes, the answer is 200, then it ends."""
    async with Proxy.serve(amqp_url) as proxy:
        overrides["rabbitmq"]["urls"] = [proxy.url(amqp_url)]
        receiver, port = await started(processes, overrides)
        async with rabbit.listening(rabbit.names.events, "clicked") as clicked, Wire.to(port) as wire:
            proxy.to_client.pause()
            wire.send(post(BODY))
            await clicked.next()
            receiver.send(signal.SIGTERM)
            assert (await receiver.says("receiver.stopping"))["in_flight"] == 1
            proxy.resume()
            assert (await wire.answer()).json["durability"] == "confirmed"
        assert await receiver.ended() == 0


async def test_sigterm_takes_the_body_of_a_request_that_has_begun(
    processes: Processes, overrides: dict[str, Any], rabbit: Rabbit
) -> None:
    """Many clients send head and body in two packets: one that is told to stop between them takes the second."""
    receiver, port = await started(processes, overrides)
    async with rabbit.listening(rabbit.names.events, "clicked") as clicked, Wire.to(port) as wire:
        wire.send(head("POST", f"Content-Length: {len(BODY)}", "Expect: 100-continue"), BODY[:20])
        assert (await wire.answer()).status_line == "HTTP/1.1 100 Continue"
        receiver.send(signal.SIGTERM)
        await receiver.says("receiver.stopping")
        wire.send(BODY[20:])
        assert (await wire.answer()).json["durability"] == "confirmed"
        assert await wire.rest() == b""
        assert (await clicked.next()).body == BODY
    assert await receiver.ended() == 0


async def test_sigterm_does_not_wait_for_a_confirm_for_ever(
    processes: Processes, overrides: dict[str, Any], rabbit: Rabbit, amqp_url: str
) -> None:
    """A broker that has fallen silent: what is in flight is spooled, and the end comes within `drain_timeout`."""
    async with Proxy.serve(amqp_url) as proxy:
        overrides["rabbitmq"]["urls"] = [proxy.url(amqp_url)]
        overrides["receiver"] |= {"confirm_wait": 0.3, "drain_timeout": 4.0}
        receiver, port = await started(processes, overrides)
        async with rabbit.listening(rabbit.names.events, "clicked") as clicked, Wire.to(port) as wire:
            proxy.to_client.pause()
            wire.send(post(BODY))
            await clicked.next()
            receiver.send(signal.SIGTERM)
            assert (await wire.answer()).json["durability"] == "spooled"
        async with asyncio.timeout(8):  # Compose kills after 10 s
            assert await receiver.ended() == 0


async def test_a_port_that_is_taken_is_one_line(
    processes: Processes, overrides: dict[str, Any], rabbit: Rabbit
) -> None:
    """Which address, and which setting to change; exit code 1."""
    assert rabbit
    with socket.socket() as taken:
        port = free_port()
        taken.bind(("127.0.0.1", port))
        taken.listen()
        overrides["receiver"]["port"] = port
        receiver = await processes.start("receiver", overrides=overrides)
        assert await receiver.ended() == 1
    [line] = receiver.failures
    assert line.startswith(f"the receiver cannot listen on 127.0.0.1:{port}: ")
    assert "BRIDGE_RECEIVER__PORT" in line


async def started(processes: Processes, overrides: dict[str, Any]) -> tuple[Process, int]:
    """A receiver that has reached RabbitMQ, and its port."""
    receiver = await processes.start("receiver", overrides=overrides)
    port = (await receiver.says("receiver.started"))["port"]
    await receiver.says("broker.connected")
    return receiver, port
