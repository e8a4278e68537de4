"""`bridge suppressions import` and `export`: the list from and to files."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from bridge import durable_files, private_files
from bridge.cli.console import (
    BAD_USAGE,
    fail,
    fails_with,
    on_terminal,
    print_json,
    print_to_stderr,
    settings_with_logs,
    terminal,
)
from bridge.cli.help_epilog import LIST, page
from bridge.cli.moments import moment
from bridge.cli.options import AsJson, DryRun
from bridge.cli.suppressions_options import Actor
from bridge.operations import transfer as operations
from bridge.suppression.addresses import InvalidAddressError, normalise_domain
from bridge.suppression.errors import StoreError
from bridge.suppression.list_filter import ListFilter
from bridge.suppression.policy import Reason
from bridge.suppression.transfer.importing import Manner
from bridge.suppression.transfer.inspection import STDIN, UnusableFileError
from bridge.telemetry.terminal import clean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bridge.suppression.transfer.exporting import Format

FormatOption = Annotated[
    Literal["csv", "ndjson"] | None,
    typer.Option("--format", help="CSV, or a JSON document a line; without, the name of the file says it."),
]

_NAMES: Final = {
    "bridge": "the bridge's own", "ses": "Amazon SES", "sendgrid": "SendGrid", "mailgun": "Mailgun",
    "postmark": "Postmark", "telnyx": "Telnyx", "mailchimp": "Mailchimp", "coss": "COSS", "other": "unknown source",
}  # fmt: skip
_NDJSON_SUFFIXES: Final = {".ndjson", ".jsonl", ".json"}

IMPORT_EPILOG: Final = page(
    "suppressions import bounces.csv --dry-run --rejected rejected.csv",
    *LIST,
    codes={
        0: "all rows are on the list, or were rejected one by one",
        1: "the file cannot be imported as a whole, and nothing was changed; or the list could not be changed: the "
        "same command goes on where it was",
    },
)
EXPORT_EPILOG: Final = page("suppressions export --output list.csv", *LIST)

_ROWS_UNDER_WAY: Final = 500_000
"""Objects that rows under way are at the most. A collection would look at each of them, and find none to free."""


@fails_with(StoreError, UnusableFileError)
def import_(
    context: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE", help="CSV or JSON lines; - is standard input.")],
    *,
    actor: Actor,
    form: FormatOption = None,
    reason: Annotated[
        Reason | None, typer.Option("--reason", help="Of every row, whatever the file says.")
    ] = None,
    rejected: Annotated[
        Path | None,
        typer.Option("--rejected", help="Write rejected rows to this CSV file, each with its reason."),
    ] = None,
    note: Annotated[
        str | None, typer.Option("--note", help="Why, for the log; without, the name of the file.")
    ] = None,
    no_publish: Annotated[
        bool, typer.Option("--no-publish", help="Do not publish the changes to other services.")
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Also if this very file was imported before.")
    ] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Put the addresses of a file on the list.

    Exports of Amazon SES, SendGrid, Mailgun, Postmark, Telnyx, Mailchimp, and of `suppressions export` are known by their
    headers. A row counts once, however often it is imported. An import that was interrupted goes on where it was. An address
    that a person took off the list later than the time of its row stays off.
    """
    settings = settings_with_logs(context, "error")
    manner = Manner(actor, f"import of {_short(file)}" if note is None else note, publish=not no_publish)
    order = operations.ImportOrder(file, manner, form, reason, rejected, dry_run=dry_run, again=again)
    gc.set_threshold(_ROWS_UNDER_WAY)
    try:
        with _bar("importing") as moved:
            done = asyncio.run(operations.import_file(settings, order, moved))
    except OSError as error:
        if rejected is None or error.filename != str(rejected):
            raise
        fail(f"{rejected} cannot be written: {error.strerror}")
    if as_json:
        print_json(_document(file, done, order))
        return
    for rejection in done.rejections:
        print_to_stderr(f"line {rejection.line}: {rejection.why}")
    more = done.state.rejected - len(done.rejections)
    if more and rejected is None and not done.repeated:
        print_to_stderr(f"{more:,} more were rejected; --rejected FILE writes all of them")
    terminal.print(Text(_summary(_short(file), done, dry_run=dry_run)))


@fails_with(StoreError)
def export(
    context: typer.Context,
    *,
    output: Annotated[
        Path | None, typer.Option("--output", help="Write to this file; without, to standard output.")
    ] = None,
    form: FormatOption = None,
    reason: Annotated[Reason | None, typer.Option("--reason", help="Only entries of this reason.")] = None,
    domain: Annotated[str | None, typer.Option("--domain", help="Only addresses of this domain.")] = None,
    search: Annotated[str | None, typer.Option("--search", help="Only addresses with this in them.")] = None,
    since: Annotated[
        int | None,
        typer.Option(
            "--since", metavar="TIME", parser=moment, help="Made or updated since then: 2h, 7d, or ISO 8601."
        ),
    ] = None,
    evidence: Annotated[bool, typer.Option("--evidence", help="With the raw events, in Base64.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write the list to a file: all of each entry that is in force, ordered by address.

    An import of the file into an empty list makes the same list. --json says how many entries are in the file, and needs
    --output.
    """
    if as_json and output is None:
        fail("--json needs --output: otherwise the list itself is on standard output", BAD_USAGE)
    try:
        plain_domain = None if domain is None else normalise_domain(domain)
    except InvalidAddressError as error:
        fail(f"--domain: {error}", BAD_USAGE)
    chosen = ListFilter(reason=reason, domain=plain_domain, text=search, changed_since=since)
    order = operations.ExportOrder(form or _format_of(output), chosen, evidence=evidence)
    settings = settings_with_logs(context, "error")
    with _bar("exporting") as moved, _written(output) as write:
        entries = asyncio.run(operations.export(settings, order, write, moved))
    if as_json:
        print_json({"file": str(output), "format": order.form, "entries": entries})
    elif output is not None:
        terminal.print(Text(f"{entries:,} entries are in {output}"))


@contextmanager
def _written(output: Path | None) -> Iterator[Callable[[bytes], Any]]:
    """Writes the file, which only its owner can read. It takes its name when it is complete."""
    if output is None:
        yield _write_to_terminal if on_terminal() else sys.stdout.buffer.write
        sys.stdout.buffer.flush()
        return
    part = output.with_name(f".{output.name}.{os.getpid()}.part")
    try:
        private_files.create_file(part)
        try:
            with part.open("wb") as file:
                yield file.write
            durable_files.put_in_place(part, output)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        fail(f"{output} cannot be written: {error.strerror}")


def _write_to_terminal(part: bytes) -> None:
    """The export for people. A file or a pipe gets each character as it is, for an import."""
    sys.stdout.write(clean(part.decode()))


@contextmanager
def _bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on standard error, if that is a terminal."""
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    on = Console(stderr=True)
    with Progress(*columns, console=on, transient=True, disable=not on.is_terminal) as shown:
        bar = shown.add_task(what, total=None)

        def moved(done: int, total: int) -> None:
            shown.update(bar, completed=done, total=total)

        yield moved


def _format_of(output: Path | None) -> Format:
    return "ndjson" if output is not None and output.suffix.lower() in _NDJSON_SUFFIXES else "csv"


def _document(file: str, done: operations.ImportResult, order: operations.ImportOrder) -> dict[str, Any]:
    state = done.state
    return {
        "file": file,
        "source": done.source,
        "format": done.form,
        "dry_run": order.dry_run,
        "already_imported": done.repeated,
        "resumed_at": done.resumed_at,
        "rows": state.done + state.rejected,
        "added": state.added,
        "updated": state.updated,
        "unchanged": state.unchanged,
        "outdated": state.outdated,
        "rejected": state.rejected,
        "rejected_file": None if order.rejected is None else str(order.rejected),
        "rejections": [{"line": one.line, "because": one.why} for one in done.rejections],
        "published": order.manner.publish and not order.dry_run,
    }


def _summary(file: str, done: operations.ImportResult, *, dry_run: bool) -> str:
    if done.repeated:
        return f"{file} was imported before, so that nothing was done; --again imports it anew"
    state = done.state
    counts = ", ".join(
        f"{count:,} {name}"
        for name, count in (
            ("would be added" if dry_run else "added", state.added),
            ("updated", state.updated),
            ("unchanged", state.unchanged),
            ("outdated", state.outdated),
            ("rejected", state.rejected),
        )
    )
    went_on = f"; it went on behind {done.resumed_at:,} rows of an interrupted run" if done.resumed_at else ""
    return f"{file} ({_NAMES[done.source]}), {state.done + state.rejected:,} rows: {counts}{went_on}"


def _short(file: str) -> str:
    return "standard input" if file == STDIN else Path(file).name
