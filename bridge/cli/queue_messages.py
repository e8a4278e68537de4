"""Shared by `bridge dead` and `bridge quarantine`: options, progress bars, and output."""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Generic, NamedTuple, Protocol, TypeVar

import orjson
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bridge.amqp.errors import BrokerRefusedError, BrokerUnavailableError
from bridge.cli.console import BAD_USAGE, fail, on_terminal, settings_of
from bridge.cli.lists import ON_A_TERMINAL, Cell, print_summary
from bridge.dead_letters import message_file
from bridge.dead_letters.message_file import MessageFileError
from bridge.dead_letters.queue_reader import MAX_HELD, BusyError
from bridge.operations.queue_messages import MIN_RATE
from bridge.telemetry import logs
from bridge.telemetry.terminal import one_line
from bridge.timestamps import unix_ms_now

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from bridge.settings.sections import Settings

T = TypeVar("T", bound="Waiting")

ERRORS: Final = (BrokerUnavailableError, BrokerRefusedError, BusyError, MessageFileError)
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def _age(text: str) -> float:
    """`90s`, `5m`, `2h` or `7d`, in seconds."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text.strip())
    if found is None:
        raise typer.BadParameter(f"'{text}' is not an age; write 90s, 5m, 2h or 7d")
    return float(found[1]) * _UNITS[found[2]]


Ids = Annotated[list[str] | None, typer.Argument(metavar="ID", help="Ids, as `list` shows them.")]
Older = Annotated[
    float | None,
    typer.Option("--older-than", parser=_age, metavar="AGE", help="Older than this: 90s, 5m, 2h, 7d."),
]
Younger = Annotated[
    float | None, typer.Option("--younger-than", parser=_age, metavar="AGE", help="Younger than this.")
]
Everything = Annotated[bool, typer.Option("--all", help="All of them.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only count what would be done.")]
Limit = Annotated[
    int | None,
    typer.Option(
        "--limit", min=1, help="How many at the most; without, 100 on a terminal, else all in reach."
    ),
]
After = Annotated[
    str | None,
    typer.Option("--after", metavar="ID", help="Go on behind this one: `next` of the list before."),
]
Rate = Annotated[float, typer.Option("--rate", min=MIN_RATE, help="The maximum number a second.")]
To = Annotated[
    Path | None,
    typer.Option(
        "--to", dir_okay=False, help="The file they are written to; without it, a new one in this folder."
    ),
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


class Waiting(Protocol):
    """A message that waits for a person."""

    @property
    def id(self) -> str: ...


class Shown(NamedTuple, Generic[T]):
    """A part of a list."""

    rows: list[T]
    following: str | None
    """For `--after`; None where nothing follows."""


def load_settings(context: typer.Context) -> Settings:
    settings = settings_of(context)
    logs.configure_for(settings, level="warning")
    return settings


def require_one_selection(ids: list[str] | None, *, conditions: bool, everything: bool) -> None:
    """Fail unless there are either ids, or conditions, or --all."""
    if bool(ids) + conditions + everything != 1:
        fail("give either ids, or conditions such as --reason, or --all", BAD_USAGE)


def part_of(
    found: Sequence[T], *, limit: int | None, after: str | None, where: str, as_json: bool
) -> Shown[T]:
    """What `list` shows of them; an `after` that is not there any more ends it with one line."""
    rest = list(found)
    if after is not None:
        names = _names(found)
        if after not in names:
            fail(f"--after: '{after}' is not among {where}; begin anew without it")
        rest = rest[names.index(after) + 1 :]
    most = limit or (ON_A_TERMINAL if on_terminal() and not as_json else len(rest))
    more = most < len(rest)
    return Shown(rest[:most], _names(found)[len(found) - len(rest) + most - 1] if more else None)


def print_shown(shown: Shown[T], matching: str, unseen: int) -> None:
    """The lines below a list."""
    more = f"; more with --after {shown.following}" if shown.following else ""
    print_summary(f"{len(shown.rows):,} of {matching}{more}")
    print_unread(unseen)


def outcome(
    verb: str,
    *,
    chosen: int,
    done: int,
    missing: list[str],
    unseen: int | None,
    dry_run: bool = False,
    **more: Any,
) -> dict[str, Any]:
    """What was done, for programs.

    Args:
        verb: `replayed` or `discarded`.
        chosen: how many were to be.
        done: how many were.
        missing: ids that were asked for, and are not there.
        unseen: how many are out of reach; None where it came to no end.
        dry_run: whether none was to be touched.
        more: what else is said.
    """
    return {
        "dry_run": dry_run,
        "chosen": chosen,
        verb: done,
        "missing": missing,
        "out_of_reach": unseen,
        "finished": unseen is not None,
        **more,
    }


def agree(question: str, *, yes: bool, as_json: bool) -> None:
    """Where a program asks, nobody is there to answer."""
    if yes:
        return
    if as_json:
        fail("with --json say --yes, too: nobody is asked", BAD_USAGE)
    typer.confirm(question, abort=True, err=not on_terminal())


def must_not_exist(path: Path) -> None:
    if os.path.lexists(path):  # false in a folder that may not be entered: writing there says so
        fail(f"{path} exists already, and is not overwritten; name another", BAD_USAGE)


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[], None]]:
    """A progress bar. The function that it yields advances it by one."""
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as shown:
        bar = shown.add_task(what, total=total)
        yield lambda: shown.advance(bar)


def absent(ids: list[str] | None, there: Collection[str]) -> list[str]:
    """Those that were asked for, and are not there."""
    return sorted(set(ids or ()) - set(there))


def fail_for_missing_ids(ids: list[str] | None, done: Collection[str], where: str) -> None:
    if gone := absent(ids, done):
        fail(f"not among {where}: {', '.join(gone)}")


def print_unread(unseen: int) -> None:
    """On standard error where the output is for programs."""
    if unseen:
        print_summary(
            f"{unseen:,} more messages are behind the first {MAX_HELD:,}; remove some of those to reach them"
        )


def message_lines(document: Mapping[str, Any], size: int) -> Iterator[str]:
    """The lines of a message of `removed_messages.message_document`. Only the body may have several lines."""
    for title in ("headers", "properties"):
        yield f"{title}:"
        for name, value in sorted(document[title].items()):
            text = (
                value
                if isinstance(value, str)
                else orjson.dumps(value, default=message_file.json_default).decode()
            )
            yield one_line(f"  {name}: {text}")
    if "undecodable" in document:
        yield one_line(f"all properties, as they came over the wire, in base64 ({document['undecodable']}):")
        yield f"  {document['raw_properties']['base64']}"
    yield f"body ({size:,} bytes{', in base64' if 'body_base64' in document else ''}):"
    yield document.get("body") or document.get("body_base64", "")


def _names(found: Sequence[T]) -> list[str]:
    """The id of each; what has an id of another before it, `ID#2`."""
    seen: Counter[str] = Counter()
    names = []
    for one in found:
        seen[one.id] += 1
        names.append(one.id if seen[one.id] == 1 else f"{one.id}#{seen[one.id]}")
    return names


def duration_text(seconds: float | None) -> str:
    """93784 -> `1d 2h`, 65 -> `1m 5s`."""
    if seconds is None:
        return "?"
    units = ((86_400, "d"), (3600, "h"), (60, "m"), (1, "s"))
    parts: list[str] = []
    rest = int(seconds)
    for size, unit in units:
        number, rest = divmod(rest, size)
        if number or parts:
            parts.append(f"{number}{unit}")
    return " ".join(parts[:2]) or "0s"


def age(seconds: float | None) -> Cell:
    return Cell(duration_text(seconds), "" if seconds is None else round(seconds))


def time_text(milliseconds: int | None) -> str:
    if milliseconds is None:
        return "-"
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(milliseconds / 1000))


def milliseconds_ago(seconds: float | None) -> int | None:
    """The time of that many seconds ago, in Unix milliseconds."""
    return None if seconds is None else unix_ms_now() - round(seconds * 1000)
