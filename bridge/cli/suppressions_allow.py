"""`bridge suppressions allow`: addresses and domains that are written to although events have suppressed them."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from bridge.cli.console import fails_with, print_json, settings_with_logs, terminal
from bridge.cli.help_epilog import LIST, page
from bridge.cli.lists import Head, JsonList, RowPrinter
from bridge.cli.options import AsJson, ListJson
from bridge.cli.suppressions_answer import answer
from bridge.cli.suppressions_options import Actor, Limit, Note, most_of, print_shown
from bridge.cli.times import time_cell
from bridge.operations import allow_list as operations
from bridge.suppression.errors import StoreError

app = typer.Typer(
    help="The allow-list: addresses and domains that are written to although events have suppressed them. It never wins over "
    "what a person has added, and over complaints only where it is forced.",
    epilog=page("suppressions allow list --json", *LIST),
    no_args_is_help=True,
    rich_markup_mode="rich",
    add_completion=False,
)

_RULE = (
    Head("Address or domain", whole=True),
    "Over complaints",
    Head("Since, UTC", min_width=10),
    "Who",
    "Note",
)

Pattern = Annotated[
    str,
    typer.Argument(
        metavar="PATTERN", help="An e-mail address in any spelling, or a domain, such as example.org."
    ),
]


@app.command(name="list", epilog=page("suppressions allow list --limit 20", *LIST))
@fails_with(StoreError)
def list_(
    context: typer.Context,
    *,
    limit: Limit = None,
    after: Annotated[
        str | None,
        typer.Option(
            "--after", metavar="PATTERN", help="Continue after this rule: `next` of the previous page."
        ),
    ] = None,
    as_json: ListJson = False,
) -> None:
    """Show the rules, ordered by address or domain."""
    settings = settings_with_logs(context, "error")
    most = most_of(limit, as_json=as_json)
    if as_json:
        document = JsonList()
        listed = answer(
            operations.list_rules(
                settings, limit=most, after=after, show=lambda rule: document.add(rule.document())
            )
        )
        document.end(total=listed.total, following=listed.following)
        return
    printer = RowPrinter(*_RULE)
    listed = answer(
        operations.list_rules(
            settings,
            limit=most,
            after=after,
            show=lambda rule: printer.add(
                rule.pattern,
                "yes" if rule.over_complaints else "no",
                time_cell(rule.created_at),
                rule.actor,
                rule.note,
            ),
        )
    )
    printer.end()
    print_shown(listed.shown, listed.total, listed.following)


@app.command(
    epilog=page(
        'suppressions allow add example.org --note "our own"',
        *LIST,
        codes={
            1: "--over-complaints without --override or --note, or the list could not be changed: nothing is allowed"
        },
    )
)
@fails_with(StoreError)
def add(
    context: typer.Context,
    pattern: Pattern,
    *,
    actor: Actor,
    note: Note = "",
    over_complaints: Annotated[
        bool,
        typer.Option(
            "--over-complaints", help="Even if it has complained; that needs --override and --note."
        ),
    ] = False,
    override: Annotated[bool, typer.Option("--override", help="Confirm --over-complaints.")] = False,
    as_json: AsJson = False,
) -> None:
    """Allow an address, or a domain without its subdomains. A rule that is there already is replaced."""
    settings = settings_with_logs(context, "error")
    adding = operations.add_rule(
        settings, pattern, actor=actor, note=note, over_complaints=over_complaints, override=override
    )
    done = answer(adding)
    if as_json:
        print_json(done.rule.document() | {"created": done.created})
    else:
        said = "is allowed" if done.created else "is allowed as before"
        terminal.print(Text(f"{done.rule.pattern} {said}"))


@app.command(
    epilog=page(
        "suppressions allow remove example.org",
        *LIST,
        codes={1: "there is no such rule, or the list could not be changed"},
    )
)
@fails_with(StoreError)
def remove(
    context: typer.Context, pattern: Pattern, *, actor: Actor, note: Note = "", as_json: AsJson = False
) -> None:
    """Take a rule away: what suppresses the address is in force again at once."""
    settings = settings_with_logs(context, "error")
    rule = answer(operations.remove_rule(settings, pattern, actor=actor, note=note))
    if as_json:
        print_json({"removed": rule.document()})
    else:
        terminal.print(Text(f"{rule.pattern} is no longer allowed"))
