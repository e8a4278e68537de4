"""`bridge suppressions`: check, list, add and remove addresses, and show their history."""

from __future__ import annotations

import asyncio
import getpass
import os
import sys
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import typer
from rich.text import Text

from bridge.cli import suppressions_view
from bridge.cli.console import (
    BAD_USAGE,
    fail,
    fails_with,
    on_terminal,
    print_json,
    settings_with_logs,
    terminal,
)
from bridge.cli.help_epilog import LIST, page
from bridge.cli.lists import MAX_TERMINAL_ROWS, JsonList, RowPrinter, print_list, print_rows, print_summary
from bridge.cli.options import AsJson, DryRun, ListJson
from bridge.operations import suppressions as operations
from bridge.operations.suppressions import ListQuery
from bridge.suppression.addresses import InvalidAddressError, normalise
from bridge.suppression.errors import StoreError
from bridge.suppression.policy import Reason

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from bridge.suppression.entries import Entry

    T = TypeVar("T")

SUPPRESSED: Final = 3
"""Exit code of `check`: the address, or one of several, must not be written to."""

app = typer.Typer(
    help="The suppression list: who must not be written to, and why. A worker makes it, or `bridge db upgrade`; where "
    "there is none, each command here ends with exit code 1.",
    epilog=page("suppressions list --json", *LIST),
    no_args_is_help=True,
    rich_markup_mode="rich",
    add_completion=False,
)


def _login_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container's user need not have a name
        return f"uid {os.getuid()}"


Address = Annotated[str, typer.Argument(help="An e-mail address, in any spelling.")]
Addresses = Annotated[
    list[str], typer.Argument(metavar="ADDRESS...", help="E-mail addresses, in any spelling.")
]
Note = Annotated[str, typer.Option("--note", help="Why, for the log.")]
Actor = Annotated[
    str,
    typer.Option(
        "--actor", default_factory=_login_name, show_default="your login name", help="Who, for the log."
    ),
]
Limit = Annotated[
    int | None,
    typer.Option("--limit", min=1, help="How many at the most; without, 100 on a terminal, else all."),
]
OneReason = Annotated[Reason | None, typer.Option("--reason", help="Only the entry of this reason.")]


@app.command(
    epilog=page(
        "suppressions check jane@example.org joe@example.org",
        *LIST,
        codes={
            0: "none is suppressed",
            1: "the list could not be read, or the result not be printed: treat the addresses as unknown",
            2: "one is not an address, or the settings are wrong: none was looked up",
            SUPPRESSED: "at least one is suppressed, whether that could be printed or not",
        },
    )
)
@fails_with(StoreError)
def check(context: typer.Context, addresses: Addresses, as_json: AsJson = False) -> None:
    """Ask whether addresses must not be written to: the exit code says it.

    With --json, of one address: {"address": ..., "suppressed": ..., "entries": [...]}. Of several: a list of these.
    """
    found = _answer(operations.check(settings_with_logs(context, "error"), addresses))
    suppressed = any(found)
    try:
        _show_check(addresses, found, as_json=as_json)
        sys.stdout.flush()
    except (OSError, SystemExit):  # rich ends the process when a pipe is closed
        if not suppressed:
            raise
    if suppressed:
        raise typer.Exit(SUPPRESSED)


def _show_check(addresses: list[str], found: list[list[Entry]], *, as_json: bool) -> None:
    if as_json:
        documents = [_checked(address, entries) for address, entries in zip(addresses, found, strict=True)]
        if len(documents) == 1:
            print_json(documents[0])
        else:
            print_list(documents)
        return
    rows = [suppressions_view.row(entry) for entries in found for entry in entries]
    if rows:
        print_rows(suppressions_view.ENTRY, rows)
    for address, entries in zip(addresses, found, strict=True):
        if not entries:
            say = (
                print_summary if rows else _print_line
            )  # in a pipe, a line after a table must not look like a row
            say(f"{address} is not suppressed")


def _print_line(line: str) -> None:
    terminal.print(Text(line))


def _checked(address: str, entries: list[Entry]) -> dict[str, Any]:
    return {
        "address": normalise(address),
        "suppressed": bool(entries),
        "entries": [entry.document() for entry in entries],
    }


@app.command(
    name="list",
    epilog=page("suppressions list --reason complaint --limit 20 --after complaint:jane@example.org", *LIST),
)
@fails_with(StoreError)
def list_(
    context: typer.Context,
    reason: Annotated[Reason | None, typer.Option("--reason", help="Only entries of this reason.")] = None,
    limit: Limit = None,
    after: Annotated[
        str | None,
        typer.Option(
            "--after",
            metavar="REASON:ADDRESS",
            help="Continue after this entry: `next` of the previous page.",
        ),
    ] = None,
    as_json: ListJson = False,
) -> None:
    """Show the list, ordered by address; entries that have expired, too."""
    start_after = None if after is None else suppressions_view.place(after)
    wanted = ListQuery(reason, _most(limit, as_json=as_json), start_after)
    settings = settings_with_logs(context, "error")
    if as_json:
        document = JsonList()
        listed = _answer(
            operations.list_entries(settings, wanted, lambda entry: document.add(entry.document()))
        )
        document.end(total=listed.total, following=listed.following)
        return
    printer = RowPrinter(*suppressions_view.ENTRY)
    listed = _answer(
        operations.list_entries(settings, wanted, lambda entry: printer.add(*suppressions_view.row(entry)))
    )
    printer.end()
    _print_shown(listed.shown, listed.total, listed.following)


@app.command(epilog=page('suppressions add jane@example.org --note "asked by phone"', *LIST))
@fails_with(StoreError)
def add(
    context: typer.Context,
    address: Address,
    *,
    actor: Actor,
    note: Note = "",
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Put an address on the list manually, for good, with the reason "manual".

    JSON of --dry-run: {"dry_run": true, "address": text, "added": whether it would be new, "reasons": [...]}.
    """
    settings = settings_with_logs(context, "error")
    done = _answer(operations.add(settings, address, actor=actor, note=note, dry_run=dry_run))
    if as_json:
        print_json(suppressions_view.addition_document(address, done))
    else:
        terminal.print(Text(suppressions_view.addition(address, done)))


@app.command(
    epilog=page(
        "suppressions remove jane@example.org --reason complaint --override "
        '--note "subscribed again on 2 May"',
        *LIST,
        codes={
            1: "it is not on the list, or has complained and --override or --note is missing, or the list could not "
            "be read: nothing is removed"
        },
    )
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
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Take an address off the list: all its entries, or the one of --reason.

    It says whether the address is still suppressed, for another reason.
    """
    settings = settings_with_logs(context, "error")
    removing = operations.remove(
        settings, address, reason=reason, actor=actor, note=note, override=override, dry_run=dry_run
    )
    done = _answer(removing)
    if as_json:
        print_json(suppressions_view.removal_document(done, dry_run=dry_run))
    else:
        terminal.print(Text(suppressions_view.removal(done, dry_run=dry_run)))


@app.command(epilog=page("suppressions history jane@example.org", *LIST))
@fails_with(StoreError)
def history(
    context: typer.Context,
    address: Address,
    *,
    limit: Limit = None,
    after: Annotated[
        int | None,
        typer.Option(
            "--after", metavar="ID", help="Continue after this change: `next` of the previous page."
        ),
    ] = None,
    as_json: ListJson = False,
) -> None:
    """Show every change of an address, oldest first: when, what, who and why."""
    settings = settings_with_logs(context, "error")
    most = _most(limit, as_json=as_json)
    found = _answer(operations.history(settings, address, limit=most, after=after))
    if as_json:
        items = (change.document() for change in found.changes)
        print_list(items, total=found.total, following=found.following)
        return
    print_rows(suppressions_view.CHANGE, map(suppressions_view.row_of_change, found.changes))
    if found.total:
        _print_shown(len(found.changes), found.total, found.following)
    else:
        print_summary(f"{address} was never on the list")


def _most(limit: int | None, *, as_json: bool) -> int | None:
    return limit or (MAX_TERMINAL_ROWS if on_terminal() and not as_json else None)


def _print_shown(shown: int, total: int, following: str | None) -> None:
    more = f"; more with --after {following}" if following else ""
    print_summary(f"{shown:,} of {total:,}{more}")


def _answer(question: Coroutine[Any, Any, T]) -> T:
    try:
        return asyncio.run(question)
    except InvalidAddressError as error:
        fail(str(error), BAD_USAGE)
