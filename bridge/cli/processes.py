"""`bridge receiver`, `bridge worker` and `bridge dev`: the commands that stay."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
import uvloop

from bridge import dev as development
from bridge import roles
from bridge import settings as knobs
from bridge.broker.private_node import NodeError
from bridge.broker.session import BrokerRefusedError, BrokerUnavailableError
from bridge.cli.console import BAD_USAGE, fail, fails_with, people, settings_of
from bridge.settings import InvalidSettingsError
from bridge.suppression.database import StoreError
from bridge.telemetry import logs
from bridge.telemetry.health import PortTakenError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from bridge.settings import Settings

_STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def receiver(context: typer.Context) -> None:
    """Take the provider's webhooks and publish each event to RabbitMQ before it is answered.

    Environment: BRIDGE_RECEIVER__TOKENS, BRIDGE_RECEIVER__PORT, BRIDGE_RABBITMQ__URLS.
    SIGTERM stops it in order: exit code 0.

    Example: bridge --config bridge.toml receiver
    """
    _run(settings_of(context), roles.receiver)


def worker(context: typer.Context) -> None:
    """Keep the suppression list from hard bounces and complaints.

    Environment: BRIDGE_RABBITMQ__URLS, BRIDGE_SUPPRESSION__DATABASE_URL, BRIDGE_PROVIDER__API_TOKEN.
    SIGTERM stops it in order: exit code 0.

    Example: bridge --config bridge.toml worker
    """
    _run(settings_of(context), roles.worker)


@fails_with(NodeError, BrokerRefusedError, StoreError, InvalidSettingsError, OSError)
def dev(
    context: typer.Context,
    directory: Annotated[Path, typer.Option(help="For everything it writes.")] = Path(".dev"),
    port: Annotated[int, typer.Option(help="Of the receiver, on 127.0.0.1; 0 is any free one.")] = 8080,
    rabbitmq_url: Annotated[
        str | None, typer.Option(help="A broker that runs already, instead of a private node.")
    ] = None,
) -> None:
    """Run everything on this machine: RabbitMQ, a simulator of the provider, receiver and worker.

    Ctrl-C stops all of it.

    Example: bridge dev --port 9000
    """
    config = context.find_root().params.get("config")
    logs.configure(knobs.Logs(level="warning"))
    _until_signal(lambda stop: _dev(stop, directory.absolute(), port, rabbitmq_url, config))


async def _dev(
    stop: asyncio.Event, directory: Path, port: int, rabbitmq_url: str | None, config: Path | None
) -> None:
    people.print("starting: RabbitMQ, simulator, receiver, worker …")
    # Ctrl-C also ends a start that cannot succeed, such as the wait for a broker that is not there.
    async with roles.running(_live(directory, port, rabbitmq_url, config), name="dev") as living:
        await roles.until(stop, living)
        people.print("stopping …")


async def _live(directory: Path, port: int, rabbitmq_url: str | None, config: Path | None) -> None:
    """Everything, from its start until one of its parts ends; cancelling stops all of it in order."""
    async with (
        development.stack(directory, rabbitmq_url=rabbitmq_url, port=port, config=config) as running,
        development.watching(running) as seen,
    ):
        _introduce(running.places)
        async with roles.running(_show(seen), name="show") as showing:
            ended, _ = await asyncio.wait([showing, *running.parts], return_when=asyncio.FIRST_COMPLETED)
        for part in ended:
            part.result()
    raise BrokerUnavailableError(f"RabbitMQ has ended; see {directory}/rabbitmq/output.log")


async def _show(everything: AsyncIterator[development.Seen]) -> None:
    async for seen in everything:
        style = "bold red" if seen.suppression else "cyan"
        label = f"list: {seen.kind}" if seen.suppression else f"event: {seen.kind}"
        people.print(f"{label:<22} {seen.detail}", style=style, highlight=False, markup=False)


def _introduce(places: development.Places) -> None:
    for name, place in (
        ("webhook", places.webhook),
        ("RabbitMQ", places.rabbitmq),
        ("provider (simulated)", places.provider),
        ("settings", places.config),
    ):
        people.print(f"{name:<22}{place}", highlight=False, markup=False)
    event = '{"message": {"id": 1}, "event": {"name": "hard_bounced", "timestamp": 1539062173}}'
    people.print("\nTry, in another terminal:\n")
    people.print(f"curl -i {places.webhook} -d '{event}'", highlight=False, markup=False)
    people.print(f"{_program()} --config {places.config} suppressions list\n", highlight=False, markup=False)
    people.print("Ctrl-C stops all of it.\n")


def _program() -> str:
    """This command as it can be typed here: the environment that it is installed in need not be on PATH."""
    return os.path.relpath(Path(sys.executable).with_name("bridge"))


@fails_with(PortTakenError, BrokerRefusedError, StoreError)
def _run(settings: Settings, role: Callable[[Settings, roles.Lifetime], Coroutine[None, None, None]]) -> None:
    logs.configure(settings.logs)
    try:
        _until_signal(lambda stop: role(settings, roles.Lifetime(stop=stop)))
    except InvalidSettingsError as error:
        fail(str(error), BAD_USAGE)


def _until_signal(main: Callable[[asyncio.Event], Coroutine[None, None, None]]) -> None:
    """Run on uvloop; a signal to stop sets the event that `main` was given."""

    async def guarded() -> None:
        stop = asyncio.Event()
        for number in _STOPPING:
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await main(stop)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(guarded())
