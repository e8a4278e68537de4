"""`bridge simulate`: a receiver under the provider's traffic."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import orjson
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from yarl import URL

from bridge.cli.console import BAD_USAGE, FAILED, fail, fails_with, print_json, settings_of
from bridge.cli.help_epilog import page
from bridge.cli.lists import print_rows, print_summary
from bridge.cli.options import AsJson
from bridge.development.load_driver import Driver, Pace, Tally, quantile
from bridge.development.traffic import Habits, InvalidMixError, Traffic, mix
from bridge.receiver.handler import PATH
from bridge.roles.lifetime import running, until
from bridge.roles.shutdown import until_signal
from bridge.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridge.development.emission import Reply
    from bridge.development.load_driver import Outcome
    from bridge.development.traffic import Shot
    from bridge.settings.sections import Receiver

app = typer.Typer()

_SECONDS: Final = 10.0
"""How long, where nothing is said."""
_LOOK_EVERY_SECONDS: Final = 0.2
_ANYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 -- read, not bound
"""A host that is listened on -> one that can be called."""


@app.command(
    epilog=page(
        "simulate --rate 200 --seconds 30 --duplicates 5 --disorder 10 --malformed 1",
        "BRIDGE_RECEIVER__HOST",
        "BRIDGE_RECEIVER__PORT",
        "BRIDGE_RECEIVER__TOKENS",
        codes={
            0: "all was answered as it should be, until the end or Ctrl-C",
            1: "an answer was missing, or was not 200 (400 for what is no JSON)",
        },
        ends_in_order=True,
    )
)
@fails_with(OSError)
def simulate(
    context: typer.Context,
    *,
    url: Annotated[
        str | None, typer.Option(help="The webhook's; without, the receiver of the settings on this machine.")
    ] = None,
    rate: Annotated[float, typer.Option(min=0.01, help="Posts a second, whatever is answered.")] = 10,
    count: Annotated[int | None, typer.Option(min=1, help="End after so many.")] = None,
    seconds: Annotated[
        float | None, typer.Option(min=0.1, help="End after this time; 10 where there is no --count.")
    ] = None,
    events: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=WEIGHT", help="The mix; may be given several times, or with commas."),
    ] = None,
    bursts: Annotated[int, typer.Option(min=1, help="So many at once, then none until the rate is met.")] = 1,
    duplicates: Annotated[float, typer.Option(min=0, max=100, help="Percent that are repeats.")] = 0,
    disorder: Annotated[float, typer.Option(min=0, max=100, help="Percent that later ones overtake.")] = 0,
    malformed: Annotated[
        float, typer.Option(min=0, max=100, help="Percent that are no JSON, or JSON but no event.")
    ] = 0,
    connections: Annotated[int, typer.Option(min=1, max=1000, help="At the same time.")] = 32,
    first_id: Annotated[int, typer.Option(min=0, help="Of the messages; each event is about the next.")] = 1,
    seed: Annotated[int, typer.Option(help="The same seed is the same traffic.")] = 1,
    ledger: Annotated[
        Path | None,
        typer.Option(help="Write id, name and durability of each accepted event, a JSON line each."),
    ] = None,
    ledger_refused: Annotated[
        bool, typer.Option("--ledger-refused", help="Those not accepted, too: name, status, and why.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Post events to a receiver as the provider would, and show what was answered.

    All eight events in a newsletter's mix, complaints in both spellings (complined, complained). Times are from when a
    post was due, so a receiver that is too slow cannot hide it.
    """
    settings = settings_of(context)
    logs.configure_for(settings, level="warning")
    target = url or _webhook(settings.receiver)
    if not _is_http(target):
        fail("--url is not a URL of the form http://host/webhooks/msndr/TOKEN", BAD_USAGE)
    pace = Pace(
        rate,
        count=count,
        seconds=seconds or (None if count else _SECONDS),
        burst=bursts,
        connections=connections,
    )
    try:
        habits = Habits(mix(events or ()), duplicates / 100, disorder / 100, malformed / 100, first_id)
    except InvalidMixError as error:
        fail(str(error), BAD_USAGE)
    with ExitStack() as stack:
        book = None if ledger is None else stack.enter_context(ledger.open("wb", buffering=0))

        def write(entry: dict[str, Any]) -> None:
            if book is not None:
                book.write(orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE))

        def accepted(shot: Shot, reply: Reply) -> None:
            document = reply.document
            write({"id": document.get("id"), "event": shot.name, "durability": document.get("durability")})

        def refused(shot: Shot, outcome: Outcome) -> None:
            if ledger_refused:
                write({"event": shot.name, "status": outcome.status, "why": outcome.durability})

        tally = _driven(target, Traffic(habits, seed=seed), pace, accepted=accepted, refused=refused)
    _tell(tally, as_json=as_json)
    if not tally.is_good:
        raise typer.Exit(FAILED)


def _webhook(receiver: Receiver) -> str:
    if not receiver.tokens or not receiver.port:
        fail(
            "where to? Give --url, or set receiver.port and receiver.tokens (BRIDGE_RECEIVER__TOKENS)",
            BAD_USAGE,
        )
    host = _ANYWHERE.get(receiver.host, receiver.host)
    base = URL.build(scheme="http", host=host, port=receiver.port)
    return f"{base}{PATH}{receiver.tokens[0].get_secret_value()}"


def _is_http(text: str) -> bool:
    try:
        url = URL(text)
    except ValueError:
        return False
    return url.scheme in {"http", "https"} and bool(url.host)


def _driven(
    url: str,
    traffic: Traffic,
    pace: Pace,
    *,
    accepted: Callable[[Shot, Reply], None],
    refused: Callable[[Shot, Outcome], None],
) -> Tally:
    """What was answered until the end, or until Ctrl-C."""
    tallies = []

    async def main(stop: asyncio.Event) -> None:
        driver = Driver(url, traffic, pace, accepted=accepted, refused=refused)
        tallies.append(driver.tally)
        async with (
            running(_show(driver.tally, pace), name="simulate.show"),
            running(driver.run(), name="simulate.drive") as driving,
        ):
            await until(stop, driving)

    until_signal(main)
    return tallies[0]


async def _show(tally: Tally, pace: Pace) -> None:
    """Keep the bar on the terminal up to date, until cancelled."""
    totals = [pace.count, None if pace.seconds is None else int(pace.seconds * pace.rate)]
    total = min(number for number in totals if number is not None)
    columns = (
        TextColumn("posting"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[answered]:,} answered, {task.fields[wrong]:,} wrong"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task("posting", total=total, answered=0, wrong=0)
        try:
            while True:
                await asyncio.sleep(_LOOK_EVERY_SECONDS)
                progress.update(bar, completed=tally.posted, answered=tally.answered, wrong=tally.wrong)
        finally:
            progress.update(bar, completed=tally.posted, answered=tally.answered, wrong=tally.wrong)


def _tell(tally: Tally, *, as_json: bool) -> None:
    rows: list[dict[str, Any]] = [
        {
            "status": outcome.status,
            "durability": outcome.durability,
            "count": len(times),
            "p50_ms": round(quantile(times, 0.5) * 1000, 2),
            "p99_ms": round(quantile(times, 0.99) * 1000, 2),
        }
        for outcome, times in sorted(tally.seconds.items())
    ]
    if as_json:
        print_json(
            {"posted": tally.posted, "answered": tally.answered, "wrong": tally.wrong, "answers": rows}
        )
        return
    print_rows(
        ("Answer", "Durability", "Count", "p50, ms", "p99, ms"),
        (
            (row["status"], row["durability"], row["count"], f"{row['p50_ms']:g}", f"{row['p99_ms']:g}")
            for row in rows
        ),
    )
    print_summary(f"{tally.posted:,} posted, {tally.answered:,} answered, {tally.wrong:,} wrong")
