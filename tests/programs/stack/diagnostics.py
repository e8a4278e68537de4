"""What the person on call meets in the stack, tried: its own commands, and a token that is rotated while it stands."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Final

import aio_pika

from bridge.amqp.connection import open_connection
from bridge.broker.topology import Names
from tests.programs.stack.engine import ROOT, EngineError

if TYPE_CHECKING:
    from tests.programs.stack.stack import Stack

_TOKENS: Final = "receiver_tokens"
_SECONDS: Final = 15.0
_ASK: Final = (
    "import sys, urllib.request, urllib.error\n"
    "try: print(urllib.request.urlopen(sys.argv[1], timeout=4).status)\n"
    "except urllib.error.HTTPError as error: print(error.code)"
)


async def well(stack: Stack) -> list[str]:
    """`doctor` finds nothing that fails, and `status` knows where the roles are."""
    wrong = []
    for command in ("doctor", "status"):
        try:
            await stack.bridge(command)
        except EngineError as error:
            wrong.append(f"bridge {command}: {error}")
    return wrong


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
    answered: dict[str, str] = {}
    try:
        async with asyncio.timeout(_SECONDS):
            while answered != expected:
                for token in expected:
                    url = f"http://127.0.0.1:8080/webhooks/msndr/{token}"
                    said = await stack.execute(receiver, "python", "-ISc", _ASK, url)
                    answered[token] = said.strip()
    except TimeoutError:
        return [f"the tokens are answered {list(answered.values())}, not {list(expected.values())}"]
    return []


async def _make(option: str, stack: Stack) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(ROOT / "config" / "make_secrets.py"), option, str(stack.secrets),
        stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    if await process.wait():
        raise EngineError(f"config/make_secrets.py {option} failed")
