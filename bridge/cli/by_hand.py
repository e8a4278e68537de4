"""What `bridge dead` and `bridge quarantine` share: how messages are named, counted and taken out."""

from __future__ import annotations

import os
import re
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import orjson
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bridge.broker import letterfile
from bridge.broker.letterfile import LetterFileError
from bridge.broker.parked import REACH, BusyError
from bridge.broker.session import BrokerRefusedError, BrokerUnavailableError
from bridge.cli.console import BAD_USAGE, fail, people, settings_of
from bridge.roles.by_hand import SLOWEST
from bridge.telemetry import logs
from bridge.telemetry.terminal import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from bridge.settings import Settings

WHERE: Final = "Environment: BRIDGE_RABBITMQ__URLS, BRIDGE_RABBITMQ__PREFIX."
ERRORS: Final = (BrokerUnavailableError, BrokerRefusedError, BusyError, LetterFileError)
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def _age(text: str) -> float:
    """`90s`, `5m`, `2h` or `7d`, in seconds."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text.strip())
    if found is None:
        raise typer.BadParameter(f"'{text}' is no age; write 90s, 5m, 2h or 7d")
    return float(found[1]) * _UNITS[found[2]]


Ids = Annotated[list[str] | None, typer.Argument(metavar="ID", help="Ids, as `list` shows them.")]
Older = Annotated[
    float | None,
    typer.Option("--older-than", parser=_age, metavar="AGE", help="There for longer: 90s, 5m, 2h, 7d."),
]
Younger = Annotated[
    float | None, typer.Option("--younger-than", parser=_age, metavar="AGE", help="There for less long.")
]
Everything = Annotated[bool, typer.Option("--all", help="All of them.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only count what would be done.")]
Limit = Annotated[int, typer.Option("--limit", min=1, help="How many at the most.")]
Rate = Annotated[float, typer.Option("--rate", min=SLOWEST, help="How many a second at the most.")]
To = Annotated[
    Path | None, typer.Option("--to", dir_okay=False, help="File for them; a new one in this folder without.")
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
Json = Annotated[bool, typer.Option("--json", help="For programs.")]


def quiet(context: typer.Context) -> Settings:
    settings = settings_of(context)
    logs.configure_for(settings, level="warning")
    return settings


def one_of(ids: list[str] | None, *, conditions: bool, everything: bool) -> None:
    """What is to be moved must be said: ids, or conditions, or all."""
    if bool(ids) + conditions + everything != 1:
        fail("say which: ids, or conditions such as --reason, or --all; only one of these", BAD_USAGE)


def must_not_exist(path: Path) -> None:
    if os.path.lexists(path):  # false in a folder that may not be entered: writing there says so
        fail(f"{path} exists already, and is not overwritten; name another", BAD_USAGE)


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[], None]]:
    """A bar; what it yields moves it on by one."""
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as shown:
        bar = shown.add_task(what, total=total)
        yield lambda: shown.advance(bar)


def missing(ids: list[str] | None, done: Collection[str], where: str) -> None:
    if absent := sorted(set(ids or ()) - set(done)):
        fail(f"not among {where}: {', '.join(absent)}")


def say_what_is_out_of_reach(unseen: int) -> None:
    if unseen:
        people.print(
            f"{unseen:,} more lie behind the first {REACH:,}; move some of those away to get at them"
        )


def message_lines(document: Mapping[str, Any], size: int) -> Iterator[str]:
    """A message of `letterfile.message_document`, with so many bytes of body; only the body may be several lines."""
    for title in ("headers", "properties"):
        yield f"{title}:"
        for name, value in sorted(document[title].items()):
            text = value if isinstance(value, str) else orjson.dumps(value, default=letterfile.plain).decode()
            yield one_line(f"  {name}: {text}")
    if "undecodable" in document:
        yield one_line(f"all properties, as they stand on the wire, in base64 ({document['undecodable']}):")
        yield f"  {document['raw_properties']['base64']}"
    yield f"body ({size:,} bytes{', in base64' if 'body_base64' in document else ''}):"
    yield document.get("body") or document.get("body_base64", "")


def readable(seconds: float | None) -> str:
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


def at(milliseconds: int | None) -> str:
    if milliseconds is None:
        return "-"
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(milliseconds / 1000))


def milliseconds_ago(seconds: float | None) -> int | None:
    """The time that was so long ago, in Unix milliseconds."""
    return None if seconds is None else now() - round(seconds * 1000)


def now() -> int:
    """Unix milliseconds."""
    return time.time_ns() // 1_000_000
