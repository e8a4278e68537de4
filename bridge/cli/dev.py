"""`bridge dev`: run everything on this machine, until Ctrl-C."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple

import typer

from bridge.amqp.errors import TopologyRefusedError
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
from bridge.development.dev_events import show_events
from bridge.development.dev_settings import API_TOKEN
from bridge.development.private_node import NodeError
from bridge.roles.shutdown import run_until_signal
from bridge.settings import sections
from bridge.suppression.errors import StoreError
from bridge.tasks import background_task, wait_while_running
from bridge.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridge.development.dev_events import StackEvent
    from bridge.development.dev_stack import StackLocations

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
    port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            help="The receiver's port on 127.0.0.1; without it 8080, or a free one where that is in use; 0: any free one.",
        ),
    ] = None,
    api_port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            help="The API's port on 127.0.0.1; without it 8081, or a free one where that is in use; 0: any free one.",
        ),
    ] = None,
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
    port: int | None
    api_port: int | None
    rabbitmq_url: str | None
    config: Path | None


class _View(NamedTuple):
    """How the output is printed: for people, or for programs."""

    print_status: Callable[[str], None]
    """A line about the whole stack."""
    print_locations: Callable[[StackLocations], None]
    print_event: Callable[[StackEvent], None]


async def _dev(stop: asyncio.Event, run: _Run, view: _View) -> None:
    view.print_status("starting: RabbitMQ, simulator, receiver, worker, API …")
    # Ctrl-C also ends a start that waits for ever, such as for a broker that does not run.
    async with background_task(_run_stack(run, view), name="dev") as running:
        await wait_while_running(stop, running)
        view.print_status("stopping …")


async def _run_stack(run: _Run, view: _View) -> None:
    """Run everything until one of its parts fails. A cancellation stops all of it in order."""
    async with development.stack(
        run.directory,
        rabbitmq_url=run.rabbitmq_url,
        port=run.port,
        api_port=run.api_port,
        config=run.config,
        say=view.print_status,
    ) as stack:
        ready = asyncio.Event()
        showing = show_events(
            stack.locations.rabbitmq, stack.settings.rabbitmq.prefix, view.print_event, ready=ready
        )
        async with background_task(showing, name="print") as printing:
            await wait_while_running(ready, printing)
            view.print_locations(stack.locations)
            ended, _ = await asyncio.wait([printing, *stack.parts], return_when=asyncio.FIRST_COMPLETED)
        for task in ended:
            task.result()


def _print_event(seen: StackEvent) -> None:
    style = "bold red" if seen.suppression else "cyan"
    label = f"list: {seen.kind}" if seen.suppression else f"event: {seen.kind}"
    terminal.print(f"{label:<22} {seen.detail}", style=style, highlight=False, markup=False)


def _write(document: dict[str, Any]) -> None:
    write_json(json_text(document) + "\n", at_once=True)


def _print_locations(locations: StackLocations) -> None:
    for note in locations.notes:
        terminal.print(note, highlight=False, markup=False)
    _print_table(
        ("console", f"{locations.api}/console/  (sign in with the token {API_TOKEN})"),
        ("simulator", f"{locations.simulator}  (the provider: send its events, switch its faults)"),
        ("webhook", locations.webhook),
        ("API", locations.api),
        ("  its description", f"{locations.api}/docs"),
        ("  the contract", f"{locations.api}/contract"),
    )
    event = '{"message": {"id": 1}, "event": {"name": "hard_bounced", "timestamp": 1539062173}}'
    terminal.print("\nTry, in another terminal:\n")
    terminal.print(f"curl -i {locations.webhook} -d '{event}'", highlight=False, markup=False)
    header = f"Authorization: Bearer {API_TOKEN}"
    check = f"curl {locations.api}/v1/suppressions/check -H '{header}' --json '{_CHECKED}'"
    terminal.print(check, highlight=False, markup=False)
    command = f"{_program()} --config {locations.config}"
    terminal.print(f"{command} suppressions list", highlight=False, markup=False)
    terminal.print(f"{command} status\n", highlight=False, markup=False)
    pages = f"{locations.management}  (user guest, password guest)"
    _print_table(
        ("RabbitMQ", locations.rabbitmq),
        *([("  its own pages", pages)] if locations.management else []),
        ("provider (simulated)", locations.provider),
        ("settings", str(locations.config)),
    )
    terminal.print("\nCtrl-C stops all of it.\n")


def _print_table(*rows: tuple[str, str]) -> None:
    for name, text in rows:
        terminal.print(f"{name:<22}{text}", highlight=False, markup=False)


def _program() -> str:
    """The path of this command, which need not be on PATH."""
    return os.path.relpath(Path(sys.executable).with_name("bridge"))


_FOR_PEOPLE: Final = _View(terminal.print, _print_locations, _print_event)
_FOR_PROGRAMS: Final = _View(
    print_to_stderr,
    lambda locations: _write({"places": asdict(locations)}),
    lambda seen: _write({"list" if seen.suppression else "event": seen.kind, "detail": seen.detail}),
)
