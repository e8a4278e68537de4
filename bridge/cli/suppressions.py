"""`bridge suppressions`: ask the list, change it, and see who changed it."""

from __future__ import annotations

import asyncio
import getpass
import os
import sys
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple, TypeVar

import typer
from rich.table import Table
from rich.text import Text

from bridge.cli.console import BAD_USAGE, fail, fails_with, people, print_json, settings_of
from bridge.suppression.addresses import InvalidAddressError, normalise
from bridge.suppression.changes import rfc3339
from bridge.suppression.database import StoreError
from bridge.suppression.policy import Reason
from bridge.suppression.store import Store
from bridge.telemetry import logs
from bridge.telemetry.terminal import one_line

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable, Sequence

    from bridge.settings import Settings
    from bridge.suppression.changes import Change
    from bridge.suppression.entries import Entry

    T = TypeVar("T")

SUPPRESSED: Final = 3
"""Exit code of `check`: the address must not be written to."""

app = typer.Typer(
    help="The suppression list: who must not be written to, and why.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

_WHERE: Final = (
    "The list is the database that BRIDGE_SUPPRESSION__DATABASE_URL (suppression.database_url) names. "
    "A worker makes it, or `bridge db upgrade`; no command here does: exit code 1 where there is none."
)


_NARROWEST: Final = MappingProxyType({"Reason": 11, "Last, UTC": 10, "At, UTC": 10})
"""Columns that stay readable where the terminal is narrow: a reason in one word, a date in one line."""


def _login_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container's user need not have a name
        return f"uid {os.getuid()}"


Address = Annotated[str, typer.Argument(help="An e-mail address, in any spelling.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document, for programs.")]
Note = Annotated[str, typer.Option("--note", help="Why, for the log.")]
Actor = Annotated[
    str,
    typer.Option(
        "--actor", default_factory=_login_name, show_default="your login name", help="Who, for the log."
    ),
]
OneReason = Annotated[Reason | None, typer.Option("--reason", help="Only the entry of this reason.")]


class Page(NamedTuple):
    """What `list` shows."""

    entries: list[Entry]
    total: int


class Removal(NamedTuple):
    """What `remove` has done."""

    removed: list[Entry]
    left: list[Entry]
    """What forbids writing to the address all the same."""


def _reasons(entries: Iterable[Entry]) -> str:
    return ", ".join(entry.reason.value for entry in entries)


@app.command(epilog=f"Example: bridge suppressions check jane@example.org\n\n{_WHERE}")
@fails_with(StoreError)
def check(context: typer.Context, address: Address, as_json: AsJson = False) -> None:
    """Ask whether an address must not be written to.

    Exit code 0: it is not suppressed. 3: it is. 1: the list could not be asked. 2: it is no address.
    Where the answer cannot be printed, it is 3 all the same; else 1, and take it for unknown.
    """
    entries = _answer(_check(_settings(context), address))
    try:
        _show_check(address, entries, as_json=as_json)
        sys.stdout.flush()
    except (OSError, SystemExit):  # rich ends the process when a pipe is closed
        if not entries:
            raise
    if entries:
        raise typer.Exit(SUPPRESSED)


def _show_check(address: str, entries: list[Entry], *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "address": normalise(address),
                "suppressed": bool(entries),
                "entries": [entry.document() for entry in entries],
            }
        )
    elif entries:
        people.print(_table_of_entries(entries))
    else:
        people.print(Text(f"{address} is not suppressed"))


@app.command(
    name="list", epilog=f"Example: bridge suppressions list --reason complaint --limit 20\n\n{_WHERE}"
)
@fails_with(StoreError)
def list_(
    context: typer.Context,
    reason: Annotated[Reason | None, typer.Option("--reason", help="Only entries of this reason.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many at the most.")] = 100,
    as_json: AsJson = False,
) -> None:
    """Show the list, ordered by address; entries that have expired, too."""
    page = _answer(_page(_settings(context), reason, limit))
    if as_json:
        print_json([entry.document() for entry in page.entries])
        return
    people.print(_table_of_entries(page.entries))
    people.print(f"{len(page.entries)} of {page.total}", highlight=False)


@app.command(epilog=f'Example: bridge suppressions add jane@example.org --note "asked by phone"\n\n{_WHERE}')
@fails_with(StoreError)
def add(
    context: typer.Context,
    address: Address,
    *,
    actor: Actor,
    note: Note = "",
    as_json: AsJson = False,
) -> None:
    """Put an address on the list by hand, for good, with the reason "manual"."""
    entry, stands = _answer(_add(_settings(context), address, actor, note))
    if as_json:
        print_json(entry.document() | {"reasons": [one.reason.value for one in stands]})
    else:
        people.print(Text(f"{entry.address} is suppressed ({_reasons(stands)})"))


@app.command(
    epilog=f"Example: bridge suppressions remove jane@example.org --reason complaint --override "
    f'--note "subscribed again on 2 May"\n\n{_WHERE}'
)
@fails_with(StoreError)
def remove(
    context: typer.Context,
    address: Address,
    *,
    actor: Actor,
    reason: OneReason = None,
    note: Note = "",
    override: Annotated[
        bool, typer.Option("--override", help="Lift a complaint, too; that needs --note.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Take an address off the list: all its entries, or the one of --reason.

    It says whether the address is still suppressed, for another reason.

    Exit code 1: it is not on the list, or has complained and --override or --note is missing; nothing is removed.
    """
    done = _answer(_remove(_settings(context), address, reason, actor, note, override=override))
    on_the_list, removed = done.removed[0].address, _reasons(done.removed)
    if as_json:
        print_json(
            {
                "address": on_the_list,
                "removed": [entry.document() for entry in done.removed],
                "still_suppressed": bool(done.left),
                "reasons": [entry.reason.value for entry in done.left],
            }
        )
    elif done.left:
        people.print(Text(f"{on_the_list} is still suppressed ({_reasons(done.left)}); removed: {removed}"))
    else:
        people.print(Text(f"{on_the_list} is no longer suppressed ({removed})"))


@app.command(epilog=f"Example: bridge suppressions history jane@example.org\n\n{_WHERE}")
@fails_with(StoreError)
def history(context: typer.Context, address: Address, as_json: AsJson = False) -> None:
    """Show every change that an address has seen, oldest first: when, what, who and why."""
    changes = _answer(_history(_settings(context), address))
    if as_json:
        print_json([change.document() for change in changes])
    elif changes:
        people.print(_table_of_changes(changes))
    else:
        people.print(Text(f"{address} was never on the list"))


def _settings(context: typer.Context) -> Settings:
    """As everywhere; the list's own errors go to standard error, where they belong."""
    settings = settings_of(context)
    logs.configure_for(settings, level="error")
    return settings


async def _check(settings: Settings, address: str) -> list[Entry]:
    async with Store.open(_url(settings), create=False) as store:
        return await store.check(address)


async def _page(settings: Settings, reason: Reason | None, limit: int) -> Page:
    async with Store.open(_url(settings), create=False) as store:
        counts = await store.count_by_reason()
        total = sum(counts.values()) if reason is None else counts[reason]
        return Page(await store.entries(reason=reason, limit=limit), total)


async def _add(settings: Settings, address: str, actor: str, note: str) -> tuple[Entry, list[Entry]]:
    """The entry, and all that forbids writing to the address now."""
    async with Store.open(_url(settings), create=False) as store:
        entry = await store.add(address, actor=actor, note=note)
        return entry, await store.check(address)


async def _remove(
    settings: Settings, address: str, reason: Reason | None, actor: str, note: str, *, override: bool
) -> Removal:
    async with Store.open(_url(settings), create=False) as store:
        removed = await store.remove(address, reason=reason, actor=actor, note=note, override=override)
        return Removal(removed, await store.check(address))


async def _history(settings: Settings, address: str) -> list[Change]:
    async with Store.open(_url(settings), create=False) as store:
        return await store.history(address)


def _url(settings: Settings) -> str:
    return settings.suppression.database_url.get_secret_value()


def _answer(question: Coroutine[Any, Any, T]) -> T:
    try:
        return asyncio.run(question)
    except InvalidAddressError as error:
        fail(str(error), BAD_USAGE)


def _table_of_entries(entries: Sequence[Entry]) -> Table:
    return _table(
        ("Address", "Reason", "Count", "Last, UTC", "Expires"),
        (
            (
                entry.address,
                entry.reason.value,
                str(entry.count),
                _readable(entry.last_event_at),
                "never" if entry.expires_at is None else _readable(entry.expires_at),
            )
            for entry in entries
        ),
    )


def _table_of_changes(changes: Sequence[Change]) -> Table:
    return _table(
        ("At, UTC", "What", "Reason", "Who", "Note", "Message", "Event"),
        (
            (
                _readable(change.at),
                change.action,
                change.reason.value,
                change.actor,
                change.note,
                change.message_id or "",
                change.event_id or "",
            )
            for change in changes
        ),
    )


def _table(heads: Sequence[str], rows: Iterable[Iterable[str]]) -> Table:
    table = Table()
    for head in heads:
        # Folded where the terminal is narrow: a shortened address would be another one.
        table.add_column(head, overflow="fold", min_width=_NARROWEST.get(head, len(head)))
    for row in rows:
        table.add_row(*(Text(one_line(cell)) for cell in row))
    return table


def _readable(seconds: int) -> str:
    """1539062173 -> `2018-10-09 05:16:13`: in a narrow column it breaks between day and time."""
    return rfc3339(seconds).removesuffix("Z").replace("T", " ")
