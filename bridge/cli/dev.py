"""`bridge dev`: run everything on this machine, until Ctrl-C."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple

import typer

from bridge.amqp.errors import BrokerUnavailableError, TopologyRefusedError
from bridge.cli.console import (
    fails_with,
    json_text,
    print_to_stderr,
    terminal,
    warn_foreign_variables,
    write_json,
)
from bridge.cli.help_epilog import STAYS, page
from bridge.cli.options import LineJson
from bridge.development import dev_stack as development
from bridge.development.private_node import NodeError
from bridge.roles.shutdown import run_until_signal
from bridge.settings import sections
from bridge.suppression.errors import StoreError
from bridge.tasks import background_task, wait_while_running
from bridge.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

app = typer.Typer(add_completion=False)

_CHECKED: Final = '{"addresses": ["recipient1@example.org", "recipient2@example.org"]}'
_ENDING_SECONDS: Final = 60.0
"""The roles stop one after the other, and then the RabbitMQ node, which may take half of this time."""


@app.command(
    epilog=page(
        "dev --port 9000",
        codes=STAYS,
        ends_in_order=True,
    )
)
@fails_with(NodeError, TopologyRefusedError, StoreError, OSError)
def dev(
    context: typer.Context,
    directory: Annotated[Path, typer.Option(help="The folder for all files.")] = Path(".dev"),
    port: Annotated[int, typer.Option(help="The receiver's port on 127.0.0.1; 0: any free one.")] = 8080,
    api_port: Annotated[int, typer.Option(help="The API's port on 127.0.0.1; 0: any free one.")] = 8081,
    rabbitmq_url: Annotated[
        str | None, typer.Option(help="The URL of a running broker, instead of a private node.")
    ] = None,
    as_json: LineJson = False,
) -> None:
    """Run everything on this machine: RabbitMQ, a simulator of the provider, receiver, worker and API.

    Ctrl-C stops all of it.
    """
    config = context.find_root().params.get("config")
    view = _FOR_PROGRAMS if as_json else _FOR_PEOPLE
    warn_foreign_variables()
    logs.configure(sections.Logs(level="warning"))
    run_until_signal(
        lambda stop: _dev(stop, _Run(directory.absolute(), port, api_port, rabbitmq_url, config), view),
        deadline_seconds=_ENDING_SECONDS,
    )


class _Run(NamedTuple):
    directory: Path
    port: int
    api_port: int
    rabbitmq_url: str | None
    config: Path | None


class _View(NamedTuple):
    """How the output is printed: for people, or for programs."""

    print_status: Callable[[str], None]
    """A line about the whole stack."""
    print_locations: Callable[[development.StackLocations], None]
    print_event: Callable[[development.StackEvent], None]


async def _dev(stop: asyncio.Event, run: _Run, view: _View) -> None:
    view.print_status("starting: RabbitMQ, simulator, receiver, worker, API …")
    # Ctrl-C also ends a start that waits for ever, such as for a broker that does not run.
    async with background_task(_run_stack(run, view), name="dev") as running:
        await wait_while_running(stop, running)
        view.print_status("stopping …")


async def _run_stack(run: _Run, view: _View) -> None:
    """Run everything until one of its parts ends. A cancellation stops all of it in order."""
    directory = run.directory
    async with (
        development.stack(
            directory,
            rabbitmq_url=run.rabbitmq_url,
            port=run.port,
            api_port=run.api_port,
            config=run.config,
        ) as stack,
        development.stack_events(stack) as events,
    ):
        view.print_locations(stack.locations)
        async with background_task(_print_events(events, view), name="print") as printing:
            ended, _ = await asyncio.wait([printing, *stack.parts], return_when=asyncio.FIRST_COMPLETED)
        for task in ended:
            task.result()
    raise BrokerUnavailableError(f"RabbitMQ has ended; see {directory}/rabbitmq/output.log")


async def _print_events(events: AsyncIterator[development.StackEvent], view: _View) -> None:
    async for seen in events:
        view.print_event(seen)


def _print_event(seen: development.StackEvent) -> None:
    style = "bold red" if seen.suppression else "cyan"
    label = f"list: {seen.kind}" if seen.suppression else f"event: {seen.kind}"
    terminal.print(f"{label:<22} {seen.detail}", style=style, highlight=False, markup=False)


def _write(document: dict[str, Any]) -> None:
    write_json(json_text(document) + "\n", at_once=True)


def _print_locations(locations: development.StackLocations) -> None:
    for name, location in (
        ("webhook", locations.webhook),
        ("API", locations.api),
        ("RabbitMQ", locations.rabbitmq),
        ("provider (simulated)", locations.provider),
        ("settings", locations.config),
    ):
        terminal.print(f"{name:<22}{location}", highlight=False, markup=False)
    event = '{"message": {"id": 1}, "event": {"name": "hard_bounced", "timestamp": 1539062173}}'
    terminal.print("\nTry, in another terminal:\n")
    terminal.print(f"curl -i {locations.webhook} -d '{event}'", highlight=False, markup=False)
    header = f"Authorization: Bearer {development.API_TOKEN}"
    check = f"curl {locations.api}/v1/suppressions/check -H '{header}' --json '{_CHECKED}'"
    terminal.print(check, highlight=False, markup=False)
    command = f"{_program()} --config {locations.config}"
    terminal.print(f"{command} suppressions list", highlight=False, markup=False)
    options = "".join(f" --metrics {url}" for url in locations.health)
    terminal.print(f"{command} status{options}\n", highlight=False, markup=False)
    terminal.print("Ctrl-C stops all of it.\n")


def _program() -> str:
    """The path of this command, which need not be on PATH."""
    return os.path.relpath(Path(sys.executable).with_name("bridge"))


_FOR_PEOPLE: Final = _View(terminal.print, _print_locations, _print_event)
_FOR_PROGRAMS: Final = _View(
    print_to_stderr,
    lambda locations: _write({"places": asdict(locations)}),
    lambda seen: _write({"list" if seen.suppression else "event": seen.kind, "detail": seen.detail}),
)
