"""`bridge suppressions`: check, list, add and remove addresses, and show their history."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from bridge.cli import privacy, suppressions_allow, suppressions_check, suppressions_view, transfer
from bridge.cli.console import BAD_USAGE, fail, fails_with, print_json, settings_with_logs, terminal
from bridge.cli.help_epilog import LIST, page
from bridge.cli.lists import JsonList, RowPrinter, print_list, print_rows, print_summary
from bridge.cli.moments import moment, moment_ahead
from bridge.cli.options import AsJson, DryRun, ListJson
from bridge.cli.suppressions_answer import answer
from bridge.cli.suppressions_options import Actor, Limit, Note, most_of, print_shown
from bridge.operations import suppressions as operations
from bridge.operations.suppressions import ListQuery
from bridge.suppression.addresses import InvalidAddressError, normalise_domain
from bridge.suppression.errors import StoreError
from bridge.suppression.list_filter import ListFilter
from bridge.suppression.policy import Reason
from bridge.timestamps import rfc3339

if TYPE_CHECKING:
    from bridge.suppression.reading import StateThen

app = typer.Typer(
    help="The suppression list: who must not be written to, and why. A worker makes it, or `bridge db upgrade`; where "
    "there is none, each command here ends with exit code 1.",
    epilog=page("suppressions list --json", *LIST),
    no_args_is_help=True,
    rich_markup_mode="rich",
    add_completion=False,
)


Address = Annotated[str, typer.Argument(help="An e-mail address, in any spelling.")]
OneReason = Annotated[Reason | None, typer.Option("--reason", help="Only the entry of this reason.")]


app.command(epilog=suppressions_check.EPILOG)(fails_with(StoreError)(suppressions_check.check))
app.add_typer(suppressions_allow.app, name="allow")
app.command(name="import", epilog=transfer.IMPORT_EPILOG)(transfer.import_)
app.command(epilog=transfer.EXPORT_EPILOG)(transfer.export)
app.command(epilog=privacy.ERASE_EPILOG)(privacy.erase)
app.command(name="hash", epilog=privacy.HASH_EPILOG)(privacy.hash_)
app.command(epilog=privacy.KEYS_EPILOG)(privacy.keys)


@app.command(
    name="list",
    epilog=page("suppressions list --domain example.org --reason hard_bounce --since 7d", *LIST),
)
@fails_with(StoreError)
def list_(
    context: typer.Context,
    *,
    reason: Annotated[Reason | None, typer.Option("--reason", help="Only entries of this reason.")] = None,
    domain: Annotated[str | None, typer.Option("--domain", help="Only addresses of this domain.")] = None,
    search: Annotated[str | None, typer.Option("--search", help="Only addresses with this in them.")] = None,
    since: Annotated[
        int | None,
        typer.Option(
            "--since", metavar="TIME", parser=moment, help="Made or updated since then: 2h, 7d, or ISO 8601."
        ),
    ] = None,
    expiring_before: Annotated[
        int | None,
        typer.Option(
            "--expiring-before",
            metavar="TIME",
            parser=moment_ahead,
            help="Ending within 2h or 7d, or before a time in ISO 8601; those that have ended, too.",
        ),
    ] = None,
    limit: Limit = None,
    every: Annotated[bool, typer.Option("--all", help="All of them, however many there are.")] = False,
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
    wanted = ListFilter(
        reason=reason,
        domain=None if domain is None else _domain(domain),
        text=search,
        changed_since=since,
        expiring_before=expiring_before,
    )
    query = ListQuery(wanted, most_of(limit, every=every, as_json=as_json), start_after)
    settings = settings_with_logs(context, "error")
    if as_json:
        document = JsonList()
        listed = answer(
            operations.list_entries(settings, query, lambda entry: document.add(entry.document()))
        )
        document.end(total=listed.total, following=listed.following)
        return
    printer = RowPrinter(*suppressions_view.ENTRY)
    listed = answer(
        operations.list_entries(settings, query, lambda entry: printer.add(*suppressions_view.row(entry)))
    )
    printer.end()
    print_shown(listed.shown, listed.total, listed.following)


def _domain(text: str) -> str:
    try:
        return normalise_domain(text)
    except InvalidAddressError as error:
        fail(str(error), BAD_USAGE)


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
    done = answer(operations.add(settings, address, actor=actor, note=note, dry_run=dry_run))
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
    done = answer(removing)
    if as_json:
        print_json(suppressions_view.removal_document(done, dry_run=dry_run))
    else:
        terminal.print(Text(suppressions_view.removal(done, dry_run=dry_run)))


@app.command(
    epilog=page(
        "suppressions history jane@example.org --at 2026-05-02T10:00:00Z",
        *LIST,
        codes={suppressions_check.SUPPRESSED: "with --at: it was suppressed then"},
    )
)
@fails_with(StoreError)
def history(
    context: typer.Context,
    address: Address,
    *,
    at: Annotated[
        int | None,
        typer.Option(
            "--at", metavar="TIME", parser=moment, help="Was it suppressed then? 2h, 7d (ago), or ISO 8601."
        ),
    ] = None,
    limit: Limit = None,
    after: Annotated[
        int | None,
        typer.Option(
            "--after", metavar="ID", help="Continue after this change: `next` of the previous page."
        ),
    ] = None,
    as_json: ListJson = False,
) -> None:
    """Show every change of an address, oldest first: when, what, who and why. With --at, whether it was suppressed then.

    JSON of --at: {"address": ..., "at": ..., "suppressed": ..., "reasons": [...], "change": id of the last change until then}.
    """
    settings = settings_with_logs(context, "error")
    if at is not None:
        _show_state(address, at, answer(operations.state_at(settings, address, at)), as_json=as_json)
        return
    found = answer(operations.history(settings, address, limit=most_of(limit, as_json=as_json), after=after))
    if as_json:
        items = (change.document() for change in found.changes)
        since = None if found.complete_since is None else rfc3339(found.complete_since)
        more = {} if since is None else {"complete_since": since}
        print_list(items, total=found.total, following=found.following, **more)
        return
    print_rows(suppressions_view.CHANGE, map(suppressions_view.row_of_change, found.changes))
    if found.total:
        print_shown(len(found.changes), found.total, found.following)
    else:
        print_summary(f"{address} was never on the list")
    if found.complete_since is not None:
        print_summary(f"the log is complete since {rfc3339(found.complete_since)} (retention.changes_days)")


def _show_state(address: str, at: int, state: StateThen, *, as_json: bool) -> None:
    if as_json:
        print_json(suppressions_view.state_document(address, at, state))
    else:
        terminal.print(Text(suppressions_view.state(address, at, state)))
    if state.reasons:
        raise typer.Exit(suppressions_check.SUPPRESSED)
