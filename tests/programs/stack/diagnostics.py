"""What the person on call meets in the stack, tried: its own commands, and a token that is rotated while it stands."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Final

import aio_pika

from bridge.amqp.connection import open_connection
from bridge.broker.topology import Names
from tests.programs.stack.engine import ROOT, EngineError
from tests.programs.stack.settling import still_wrong

if TYPE_CHECKING:
    from tests.programs.stack.stack import Stack

_TOKENS: Final = "receiver_tokens"
_WELL_SECONDS: Final = 60.0
_ROTATED_SECONDS: Final = 60.0
_ASK: Final = (
    "import sys, urllib.request, urllib.error\n"
    "try: print(urllib.request.urlopen(sys.argv[1], timeout=4).status)\n"
    "except urllib.error.HTTPError as error: print(error.code)"
)


async def well(stack: Stack) -> list[str]:
    """`doctor` finds nothing that fails, and `status`, which knows where the roles are, nothing that is wrong.

    Not at once: a worker is healthy for Docker as soon as it is alive, and it consumes a little later.
    """
    looks = (lambda: _failed(stack), lambda: _not_well(stack))
    return [line for look in looks for line in await still_wrong(look, patience=_WELL_SECONDS)]


async def _failed(stack: Stack) -> list[str]:
    findings = (await stack.examined("doctor"))["items"]
    return [f"bridge doctor: {one['check']}: {one['seen']}" for one in findings if one["status"] == "failed"]


async def _not_well(stack: Stack) -> list[str]:
    return [f"bridge status: {line}" for line in (await stack.examined("status"))["wrong"]]


async def discarding(stack: Stack) -> list[str]:
    """A dead letter that is discarded is in a file that outlives the container."""
    connection = await open_connection(await stack.url("operator"), name="stack-test")
    async with connection:
        channel = await connection.channel()
        letter = aio_pika.Message(b"{}", message_id="discarded", delivery_mode=2)
        await channel.default_exchange.publish(letter, Names().dead)
    run = ("run", "--rm", "--no-deps", "--no-TTY")
    await stack.engine.compose(*run, "bridge", "dead", "discard", "--all", "--yes")
    kept = await stack.engine.compose(*run, "--entrypoint", "sh", "bridge", "-c", "cat dead-letters-*.jsonl")
    return [] if "discarded" in kept else [f"the letter is not in its file: {kept}"]


async def rotated(stack: Stack) -> list[str]:
    """As `make rotate-token` and `make retire-token`: the receiver takes what its file says, and is not started anew."""
    [before] = await stack.containers("receiver")
    old = stack.secret(_TOKENS)
    await _make("--rotate-token", stack)
    new = stack.secret(_TOKENS).partition(",")[0]
    wrong = await _answers(stack, {new: "200", old: "200"})
    await _make("--retire-token", stack)
    wrong += await _answers(stack, {new: "200", old: "404"})
    [after] = await stack.containers("receiver")
    return wrong if after == before else [*wrong, "the receiver is another container"]


async def _answers(stack: Stack, expected: dict[str, str]) -> list[str]:
    """What is answered otherwise, for each token, after a good while."""
    [receiver] = await stack.containers("receiver")

    async def look() -> list[str]:
        answered = []
        for token in expected:
            url = f"http://127.0.0.1:8080/webhooks/msndr/{token}"
            answered.append((await stack.execute(receiver, "python", "-ISc", _ASK, url)).strip())
        wanted = list(expected.values())
        return [] if answered == wanted else [f"the tokens are answered {answered}, not {wanted}"]

    return await still_wrong(look, patience=_ROTATED_SECONDS)


async def _make(option: str, stack: Stack) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(ROOT / "config" / "make_secrets.py"), option, str(stack.secrets),
        stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    if await process.wait():
        raise EngineError(f"config/make_secrets.py {option} failed")
