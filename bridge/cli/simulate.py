"""`bridge simulate`: posts events to a receiver as the provider does."""

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

from bridge.cli.console import BAD_USAGE, FAILED, fail, fails_with, print_json, settings_with_logs
from bridge.cli.help_epilog import page
from bridge.cli.lists import print_rows, print_summary
from bridge.cli.options import AsJson
from bridge.development.load_driver import LoadDriver, LoadPace, LoadResult, quantile
from bridge.development.traffic import InvalidMixError, Traffic, TrafficProfile, parse_mix
from bridge.receiver.handler import WEBHOOK_PATH
from bridge.roles.shutdown import run_until_signal
from bridge.tasks import background_task, wait_while_running

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridge.development.emission import WebhookReply
    from bridge.development.load_driver import AnswerKind
    from bridge.development.traffic import Posting
    from bridge.settings.sections import Receiver

app = typer.Typer(add_completion=False)

_SECONDS: Final = 10.0
"""The default duration."""
_LOOK_EVERY_SECONDS: Final = 0.2
_ANYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 -- read, not bound
"""Host that a server listens on -> host that a client can connect to."""


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
        str | None,
        typer.Option(help="URL of the webhook; without it, the receiver of the settings on this machine."),
    ] = None,
    rate: Annotated[float, typer.Option(min=0.01, help="Posts a second, regardless of the answers.")] = 10,
    count: Annotated[int | None, typer.Option(min=1, help="Stop after this number.")] = None,
    seconds: Annotated[
        float | None,
        typer.Option(min=0.1, help="Stop after this time; the default is 10, unless there is --count."),
    ] = None,
    events: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=WEIGHT", help="The mix; may be given several times, or separated by commas."
        ),
    ] = None,
    bursts: Annotated[int, typer.Option(min=1, help="This many at once, then a pause for the rate.")] = 1,
    duplicates: Annotated[float, typer.Option(min=0, max=100, help="Percent that are repeats.")] = 0,
    disorder: Annotated[
        float, typer.Option(min=0, max=100, help="Percent that are overtaken by later ones.")
    ] = 0,
    malformed: Annotated[
        float, typer.Option(min=0, max=100, help="Percent that are not JSON, or JSON but not an event.")
    ] = 0,
    connections: Annotated[int, typer.Option(min=1, max=1000, help="Connections at the same time.")] = 32,
    first_id: Annotated[
        int, typer.Option(min=0, help="Id of the first message; each event is about the next one.")
    ] = 1,
    seed: Annotated[int, typer.Option(help="The same seed makes the same traffic.")] = 1,
    ledger: Annotated[
        Path | None,
        typer.Option(
            help="Write id, name, durability and body of each accepted event to this file, as JSON lines."
        ),
    ] = None,
    ledger_refused: Annotated[
        bool,
        typer.Option(
            "--ledger-refused", help="Also those that were not accepted: name, status, reason and body."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Post events to a receiver as the provider does, and show the answers.

    All eight events in the mix of a newsletter, complaints in both spellings (complined, complained). Times count from when
    a post was due, so that they show a receiver that is too slow.
    """
    settings = settings_with_logs(context, "warning")
    target = url or _webhook(settings.receiver)
    if not _is_http(target):
        fail("--url is not a URL of the form http://host/webhooks/msndr/TOKEN", BAD_USAGE)
    pace = LoadPace(
        rate,
        count=count,
        seconds=seconds or (None if count else _SECONDS),
        burst=bursts,
        connections=connections,
    )
    try:
        profile = TrafficProfile(
            parse_mix(events or ()), duplicates / 100, disorder / 100, malformed / 100, first_id
        )
    except InvalidMixError as error:
        fail(str(error), BAD_USAGE)
    with ExitStack() as stack:
        ledger_file = None if ledger is None else stack.enter_context(ledger.open("wb", buffering=0))

        def write(entry: dict[str, Any]) -> None:
            if ledger_file is not None:
                ledger_file.write(orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE))

        def accepted(posting: Posting, reply: WebhookReply) -> None:
            document = reply.document
            write(
                {
                    "id": document.get("id"),
                    "event": posting.name,
                    "durability": document.get("durability"),
                    "body": posting.body.decode(),
                }
            )

        def rejected(posting: Posting, outcome: AnswerKind) -> None:
            if ledger_refused:
                write(
                    {
                        "event": posting.name,
                        "status": outcome.status,
                        "why": outcome.durability,
                        "body": posting.body.decode(),
                    }
                )

        tally = _drive(target, Traffic(profile, seed=seed), pace, accepted=accepted, rejected=rejected)
    _print_result(tally, as_json=as_json)
    if not tally.is_good:
        raise typer.Exit(FAILED)


def _webhook(receiver: Receiver) -> str:
    if not receiver.tokens or not receiver.port:
        fail(
            "no URL: give --url, or set receiver.port and receiver.tokens (BRIDGE_RECEIVER__TOKENS)",
            BAD_USAGE,
        )
    host = _ANYWHERE.get(receiver.host, receiver.host)
    base = URL.build(scheme="http", host=host, port=receiver.port)
    return f"{base}{WEBHOOK_PATH}{receiver.tokens[0].get_secret_value()}"


def _is_http(text: str) -> bool:
    try:
        url = URL(text)
    except ValueError:
        return False
    return url.scheme in {"http", "https"} and bool(url.host)


def _drive(
    url: str,
    traffic: Traffic,
    pace: LoadPace,
    *,
    accepted: Callable[[Posting, WebhookReply], None],
    rejected: Callable[[Posting, AnswerKind], None],
) -> LoadResult:
    """Post until the end or Ctrl-C. Returns the answers."""
    tallies = []

    async def main(stop: asyncio.Event) -> None:
        driver = LoadDriver(url, traffic, pace, accepted=accepted, rejected=rejected)
        tallies.append(driver.result)
        async with (
            background_task(_show(driver.result, pace), name="simulate.show"),
            background_task(driver.run(), name="simulate.drive") as driving,
        ):
            await wait_while_running(stop, driving)

    run_until_signal(main)
    return tallies[0]


async def _show(tally: LoadResult, pace: LoadPace) -> None:
    """Update the progress bar until cancelled."""
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


def _print_result(tally: LoadResult, *, as_json: bool) -> None:
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
