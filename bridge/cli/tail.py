"""`bridge tail`: shows events as they come."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from bridge.amqp.errors import TopologyRefusedError
from bridge.cli.console import fails_with, json_text, settings_with_logs, write_json
from bridge.cli.help_epilog import BROKER, STAYS, page
from bridge.cli.options import LineJson
from bridge.cli.times import utc_text
from bridge.operations import tail as role
from bridge.roles.shutdown import run_until_signal
from bridge.tasks import background_task, wait_while_running
from bridge.timestamps import rfc3339, rfc3339_of_milliseconds

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridge.operations.tail import TailedEvent
    from bridge.settings.sections import Settings

app = typer.Typer(add_completion=False)


@app.command(
    epilog=page(
        "tail --event hard_bounced --event complained",
        *BROKER,
        "BRIDGE_LOGS__MASK_ADDRESSES",
        codes=STAYS,
        ends_in_order=True,
    )
)
@fails_with(TopologyRefusedError)
def tail(
    context: typer.Context,
    event: Annotated[
        list[str] | None, typer.Option(help="Only events of this name; may be given several times.")
    ] = None,
    as_json: LineJson = False,
) -> None:
    """Show events as they come in, until Ctrl-C.

    They are copies, in a temporary queue of this command: other consumers are not affected. If the output is read too
    slowly, the oldest are dropped. Of a click's URL, what may be a secret (the query, long numbers in the path) is hidden, and
    addresses are masked as they are in logs. A lost connection to RabbitMQ is reported on standard error, and retried.
    """
    settings = settings_with_logs(context, "info")
    write = _write_json if as_json else _write_line
    run_until_signal(lambda stop: _tail(stop, settings, event or (), write))


async def _tail(
    stop: asyncio.Event, settings: Settings, names: Sequence[str], show: Callable[[TailedEvent], None]
) -> None:
    async with background_task(role.tail(settings, names, show), name="tail") as tailing:
        try:
            await wait_while_running(stop, tailing)
        except role.OutputClosedError:
            # As in `bridge tail | head`. Without this, Python would report the closed pipe again at its exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _write_json(seen: TailedEvent) -> None:
    times = {
        "timestamp": None if seen.timestamp is None else rfc3339(seen.timestamp),
        "received_at": rfc3339_of_milliseconds(seen.received_at),
    }
    write_json(json_text(asdict(seen) | times) + "\n", at_once=True)


def _write_line(seen: TailedEvent) -> None:
    at = seen.timestamp if seen.timestamp is not None else (seen.received_at or 0) // 1000
    about = f"message {seen.message_id}" if seen.message_id is not None else seen.problem or ""
    sys.stdout.write(f"{utc_text(at)}Z  {seen.event:<13} {about}  {seen.url or ''}".rstrip() + "\n")
    sys.stdout.flush()
