"""`bridge status`: the state of everything, on one screen."""

from __future__ import annotations

import asyncio
import sys
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.live import Live
from yarl import URL

from bridge import startup
from bridge.cli.console import BAD_USAGE, FAILED, fail, on_terminal, print_json, settings_with_logs, terminal
from bridge.cli.help_epilog import page
from bridge.cli.status_view import lines, status_view
from bridge.diagnostics.status import StatusMonitor
from bridge.roles.shutdown import run_until_signal
from bridge.tasks import background_task, wait_while_running
from bridge.telemetry.terminal import clean
from bridge.timestamps import rfc3339_of_milliseconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bridge.diagnostics.status import Status
    from bridge.settings.sections import Settings

app = typer.Typer(add_completion=False)

_REFRESH_SECONDS: Final = 2.0


def _http_urls(texts: list[str] | None) -> list[str] | None:
    for text in texts or ():
        try:
            url = URL(text)
            usable = url.scheme in {"http", "https"} and bool(url.host) and url.port is not None
        except ValueError:
            usable = False
        if not usable:
            fail("--metrics is not a URL of the form http://host:8090, or http://[::1]:8090", BAD_USAGE)
    return texts


@app.command(
    epilog=page(
        "status --watch",
        "BRIDGE_RABBITMQ__URLS",
        "BRIDGE_RABBITMQ__MANAGEMENT_URL",
        "BRIDGE_SPOOL__DIRECTORY",
        "BRIDGE_HEALTH__ROLES",
        "BRIDGE_HEALTH__HOST",
        "BRIDGE_HEALTH__PORT",
        codes={
            0: "all of it has answered and is well; or --watch was ended by Ctrl-C",
            1: "something is wrong; the output says what",
        },
    )
)
def status(
    context: typer.Context,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Repeat every 2 s, until Ctrl-C; the exit code is 0.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="For programs; with --watch a document for each look.")
    ] = False,
    metrics: Annotated[
        list[str] | None,
        typer.Option(
            metavar="URL",
            callback=_http_urls,
            help="Health address of a receiver or worker, http://host:8090; once for each of them. "
            "Without it, those of health.roles, or else of one receiver and one worker on this machine.",
        ),
    ] = None,
    over: Annotated[float, typer.Option(min=0, help="Seconds over which the rates are measured.")] = 1.0,
) -> None:
    """Show events, roles, RabbitMQ and its queues, spool, dead letters and circuit breakers. It changes nothing.

    RabbitMQ's management API may be missing: the output says what is not known without it; that is not an error.
    """
    settings = settings_with_logs(context, "error")
    urls = metrics or []
    if watch:
        run_until_signal(lambda stop: _watch(settings, urls, stop, as_json=as_json))
        return
    startup.release_signals()
    seen = asyncio.run(_once(settings, urls, over))
    if as_json:
        print_json(_document(seen))
    else:
        _print(seen)
    if not seen.well:
        raise typer.Exit(FAILED)


async def _once(settings: Settings, urls: list[str], over: float) -> Status:
    async with StatusMonitor.open(settings, urls) as looking:
        seen = await looking.read()
        if over and seen.events:
            await asyncio.sleep(over)
            seen = await looking.read()
        return seen


async def _watch(settings: Settings, urls: list[str], stop: asyncio.Event, *, as_json: bool) -> None:
    async with StatusMonitor.open(settings, urls) as looking:
        with _shown(as_json=as_json) as show:
            async with background_task(_again(looking, show), name="status") as again:
                await wait_while_running(stop, again)


async def _again(looking: StatusMonitor, show: Callable[[Status], None]) -> None:
    while True:
        show(await looking.read())
        await asyncio.sleep(_REFRESH_SECONDS)


@contextmanager
def _shown(*, as_json: bool) -> Iterator[Callable[[Status], None]]:
    """On a terminal each state replaces the one before; elsewhere they are printed one after the other."""
    if as_json:
        yield lambda seen: print_json(_document(seen))
    elif not on_terminal():
        yield _print
    else:
        with Live(console=terminal, auto_refresh=False, screen=True) as live:
            yield lambda seen: live.update(status_view(seen), refresh=True)


def _print(seen: Status) -> None:
    if on_terminal():
        terminal.print(status_view(seen))
        return
    for line in lines(seen):
        sys.stdout.write(clean(line) + "\n")  # rich would make blanks of the tabs
    sys.stdout.flush()


def _document(seen: Status) -> dict[str, Any]:
    document = asdict(seen) | {"at": rfc3339_of_milliseconds(round(seen.at * 1000)), "well": seen.well}
    del document["problems"]
    document["wrong"] = seen.wrong
    if document["spool"] is not None:
        for one in document["spool"]["set_aside"]:
            one["retry_at"] = rfc3339_of_milliseconds(one["retry_at"])
    return document
