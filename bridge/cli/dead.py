"""`bridge dead`: what could not be handled, why, and what becomes of it."""

from __future__ import annotations

import asyncio
import re
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, TypeVar

import orjson
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from bridge.broker import letterfile
from bridge.broker.letterfile import LetterFile, LetterFileError
from bridge.broker.parked import BusyError, Wanted
from bridge.broker.session import BrokerRefusedError, BrokerUnavailableError
from bridge.cli import letters
from bridge.cli.console import BAD_USAGE, fail, fails_with, people, print_json, settings_of
from bridge.events import canonical_name
from bridge.roles import dead
from bridge.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bridge.broker.parked import Letter
    from bridge.settings import Settings

    T = TypeVar("T")

_WHERE: Final = "Environment: BRIDGE_RABBITMQ__URLS, BRIDGE_RABBITMQ__PREFIX."

app = typer.Typer(
    help="Dead letters: what could not be handled, and why. Look, put back to work, let go.",
    no_args_is_help=True,
)

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_ERRORS: Final = (BrokerUnavailableError, BrokerRefusedError, BusyError, LetterFileError)


def _age(text: str) -> float:
    """`90s`, `5m`, `2h` or `7d`, in seconds."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text.strip())
    if found is None:
        raise typer.BadParameter(f"'{text}' is no age; write 90s, 5m, 2h or 7d")
    return float(found[1]) * _UNITS[found[2]]


Ids = Annotated[list[str] | None, typer.Argument(metavar="ID", help="Event ids, as `list` shows them.")]
Reasons = Annotated[list[str] | None, typer.Option("--reason", help="Only these; may be repeated.")]
Events = Annotated[list[str] | None, typer.Option("--event", help="Only these; may be repeated.")]
Older = Annotated[
    float | None,
    typer.Option("--older-than", parser=_age, metavar="AGE", help="Dead for longer: 90s, 5m, 2h, 7d."),
]
Younger = Annotated[
    float | None, typer.Option("--younger-than", parser=_age, metavar="AGE", help="Dead for less long.")
]
Everything = Annotated[bool, typer.Option("--all", help="All of them.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only count what would be done.")]
Json = Annotated[bool, typer.Option("--json", help="For programs.")]


@app.command(
    name="list", epilog=f"Example: bridge dead list --reason unknown-message --older-than 2h\n\n{_WHERE}"
)
@fails_with(*_ERRORS)
def list_(
    context: typer.Context,
    *,
    reason: Reasons = None,
    event: Events = None,
    older_than: Older = None,
    younger_than: Younger = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many at the most.")] = 100,
    as_json: Json = False,
) -> None:
    """List the dead letters, oldest first. None is taken away, and their order stays.

    Looks at the first 10,000, and says where there are more.
    """
    settings = _quiet(context)
    found = asyncio.run(
        dead.look(settings, _wanted(None, reason, event, older_than, younger_than), limit=limit)
    )
    now = _now()
    if as_json:
        rows = [letters.row(letter, now) for letter in found.letters]
        print_json(
            {"total": found.total, "looked_at": found.seen, "matching": found.matching, "letters": rows}
        )
        return
    if found.letters:
        letters.print_letters(found.letters, now)
    people.print(f"{len(found.letters):,} of {letters.counted(found.matching)}", highlight=False)
    letters.say_what_is_out_of_reach(found.unseen)


@app.command(epilog=f"Example: bridge dead show 5f2b6c0d9e8a7f6b5c4d3e2f1a0b9c8d\n\n{_WHERE}")
@fails_with(*_ERRORS)
def show(
    context: typer.Context,
    letter_id: Annotated[str, typer.Argument(metavar="ID", help="Event id, as `list` shows it.")],
    as_json: Json = False,
) -> None:
    """Show one dead letter: why it died, what was tried, its headers and its body. It stays where it is."""
    settings = _quiet(context)
    found = asyncio.run(dead.show(settings, letter_id))
    if found is None:
        fail(f"there is no dead letter '{letter_id}'; see `bridge dead list`")
    if as_json:
        print_json(orjson.loads(orjson.dumps(letterfile.document(found), default=letterfile.plain)))
        return
    for line in letters.described(found, _now()):
        people.print(Text(line))


@app.command(epilog=f"Example: bridge dead replay --reason unresolved --rate 20\n\n{_WHERE}")
@fails_with(*_ERRORS)
def replay(
    context: typer.Context,
    ids: Ids = None,
    *,
    reason: Reasons = None,
    event: Events = None,
    older_than: Older = None,
    younger_than: Younger = None,
    everything: Everything = False,
    rate: Annotated[
        float, typer.Option("--rate", min=dead.SLOWEST, help="How many a second at the most.")
    ] = 100.0,
    dry_run: DryRun = False,
) -> None:
    """Put dead letters back into the worker's queue, with the same event id and no attempts counted.

    Each leaves the dead letters when RabbitMQ has confirmed it in the other queue. Interrupted, it may simply be
    run again: the worker knows an event that it has handled.
    """
    settings = _quiet(context)
    wanted = _chosen(ids, reason, event, older_than, younger_than, everything)
    found = asyncio.run(dead.look(settings, wanted))
    if dry_run:
        letters.print_counts(found, "to be replayed")
        return
    done: list[str] = []
    try:
        with _progress("replaying", found.matching) as advance:

            def moved(letter: Letter) -> None:
                done.append(letter.id)
                advance()

            unseen = asyncio.run(dead.replay(settings, wanted, rate=rate, moved=moved))
    finally:
        people.print(f"replayed {letters.counted(len(done))}", highlight=False)
    letters.say_what_is_out_of_reach(unseen)
    _missing(ids, done)


@app.command(epilog=f"Example: bridge dead discard --reason malformed --to malformed.jsonl\n\n{_WHERE}")
@fails_with(*_ERRORS)
def discard(
    context: typer.Context,
    ids: Ids = None,
    *,
    reason: Reasons = None,
    event: Events = None,
    older_than: Older = None,
    younger_than: Younger = None,
    everything: Everything = False,
    to: Annotated[
        Path | None,
        typer.Option("--to", dir_okay=False, help="File for them; a new one in this folder without."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    dry_run: DryRun = False,
) -> None:
    """Let dead letters go for good. Each is written to a file first: body, headers and properties, a line each."""
    settings = _quiet(context)
    wanted = _chosen(ids, reason, event, older_than, younger_than, everything)
    path = to or letterfile.free_name(Path())
    if path.exists():
        fail(f"{path} exists already, and is not overwritten; name another", BAD_USAGE)
    found = asyncio.run(dead.look(settings, wanted))
    if dry_run or not found.letters:
        letters.print_counts(found, "to be discarded")
        _missing(ids, [letter.id for letter in found.letters])
        return
    if not yes:
        letters.print_counts(found, f"to be discarded, and kept only in {path}")
        typer.confirm("Discard them?", abort=True)
    # Only what was counted, and agreed to: others may have died since.
    agreed = Wanted(ids=frozenset(letter.id for letter in found.letters))
    done: list[str] = []
    try:
        with _progress("discarding", found.matching) as advance, LetterFile(path) as file:

            def kept(letter: Letter) -> None:
                done.append(letter.id)
                advance()

            unseen = asyncio.run(dead.discard(settings, agreed, file=file, kept=kept))
    finally:
        where = f", kept in {path}" if done else ""
        people.print(f"discarded {letters.counted(len(done))}{where}", highlight=False, markup=False)
    letters.say_what_is_out_of_reach(unseen)
    _missing(ids, done)


def _quiet(context: typer.Context) -> Settings:
    settings = settings_of(context)
    logs.configure_for(settings, level="warning")
    return settings


def _wanted(
    ids: list[str] | None,
    reasons: list[str] | None,
    events: list[str] | None,
    older_than: float | None,
    younger_than: float | None,
) -> Wanted:
    now = _now()
    return Wanted(
        ids=frozenset(ids or ()),
        reasons=frozenset(reasons or ()),
        events=frozenset(map(canonical_name, events or ())),
        died_before=None if older_than is None else now - round(older_than * 1000),
        died_after=None if younger_than is None else now - round(younger_than * 1000),
    )


def _chosen(
    ids: list[str] | None,
    reasons: list[str] | None,
    events: list[str] | None,
    older_than: float | None,
    younger_than: float | None,
    everything: bool,  # noqa: FBT001 -- the command's own flag, handed on in its order
) -> Wanted:
    """What is to be moved must be said: ids, or conditions, or all."""
    wanted = _wanted(ids, reasons, events, older_than, younger_than)
    conditions = wanted != Wanted(ids=wanted.ids)
    if bool(ids) + conditions + everything != 1:
        fail("say which: ids, or conditions such as --reason, or --all; only one of these", BAD_USAGE)
    return wanted


@contextmanager
def _progress(what: str, total: int) -> Iterator[Callable[[], None]]:
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task(what, total=total)
        yield lambda: progress.advance(bar)


def _missing(ids: list[str] | None, done: list[str]) -> None:
    if missing := sorted(set(ids or ()) - set(done)):
        fail(f"not among the dead letters: {', '.join(missing)}")


def _now() -> int:
    return time.time_ns() // 1_000_000
