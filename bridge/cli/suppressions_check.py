"""`bridge suppressions check`: one address, several, or a file of them."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.text import Text

from bridge.cli import suppressions_view
from bridge.cli.console import (
    BAD_USAGE,
    fail,
    json_text,
    print_json,
    settings_with_logs,
    terminal,
    write_json,
)
from bridge.cli.help_epilog import LIST, page
from bridge.cli.lists import print_list, print_rows, print_summary
from bridge.cli.options import AsJson
from bridge.cli.suppressions_answer import answer
from bridge.operations import suppressions as operations
from bridge.operations.address_files import address_lines
from bridge.suppression.address_keys import PLAIN

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bridge.operations.suppressions import CheckedLines
    from bridge.settings.sections import Settings
    from bridge.suppression.checking import Checked
    from bridge.suppression.entries import Entry

SUPPRESSED: Final = 3
"""Exit code: the address, or one of several, must not be written to."""
_STANDARD_INPUT: Final = "-"

EPILOG: Final = page(
    "suppressions check jane@example.org joe@example.org",
    *LIST,
    codes={
        0: "none is suppressed",
        1: "the list could not be read, or the result not be printed, or the file not be read: treat the addresses as "
        "unknown",
        2: "one is not an address, or the settings are wrong: without --file, none was looked up",
        SUPPRESSED: "at least one is suppressed, whether that could be printed or not",
    },
)

Addresses = Annotated[
    list[str] | None, typer.Argument(metavar="ADDRESS...", help="E-mail addresses, in any spelling.")
]
File = Annotated[
    str | None,
    typer.Option(
        "--file",
        metavar="FILE",
        help="Addresses from this file, one a line; - is standard input. A JSON document a line comes out.",
    ),
]


def check(
    context: typer.Context, addresses: Addresses = None, file: File = None, as_json: AsJson = False
) -> None:
    """Ask whether addresses must not be written to: the exit code says it.

    With --json, of one address: {"address": ..., "suppressed": ..., "entries": [...]}. Of several: a list of these.
    With --file, for each line: {"address": ..., "allowed": ..., "reasons": [...], "allow_rule": ..., "error": ...}.
    """
    if bool(addresses) == (file is not None):
        fail("give addresses, or --file with a file of them", BAD_USAGE)
    settings = settings_with_logs(context, "error")
    if file is not None:
        _check_file(settings, file)
    else:
        _check_these(settings, addresses or [], as_json=as_json)


def _check_these(settings: Settings, addresses: list[str], *, as_json: bool) -> None:
    found = answer(operations.check(settings, addresses))
    suppressed = any(found)
    try:
        _show(addresses, found, as_json=as_json)
        sys.stdout.flush()
    except (OSError, SystemExit):  # rich ends the process when a pipe is closed
        if not suppressed:
            raise
    if suppressed:
        raise typer.Exit(SUPPRESSED)


def _check_file(settings: Settings, name: str) -> None:
    suppressed = False

    def show(line: str, checked: Checked) -> None:
        nonlocal suppressed
        suppressed = suppressed or (not checked.allowed and checked.error is None)
        document = checked.document()
        write_json(json_text(document | {"address": checked.address or line}) + "\n")

    try:
        with _opened(name) as file:
            counts = answer(operations.check_lines(settings, address_lines(file), show))
        sys.stdout.flush()
    except OSError:
        if suppressed:  # whoever reads the exit code alone must know
            raise typer.Exit(SUPPRESSED) from None
        raise
    _end(counts)


def _end(counts: CheckedLines) -> None:
    allowed, suppressed, invalid = counts
    others = f", {invalid:,} no addresses" if invalid else ""
    print_summary(f"{allowed:,} allowed, {suppressed:,} suppressed{others}")
    if suppressed:
        raise typer.Exit(SUPPRESSED)
    if invalid:
        raise typer.Exit(BAD_USAGE)


@contextmanager
def _opened(name: str) -> Iterator[IO[bytes]]:
    if name == _STANDARD_INPUT:
        yield sys.stdin.buffer
        return
    try:
        file = Path(name).open("rb")  # noqa: SIM115 -- closed below: what fails there is not that it cannot be opened
    except OSError as error:
        fail(f"{name} cannot be read: {error.strerror}")
    with file:
        yield file


def _show(addresses: list[str], found: list[list[Entry]], *, as_json: bool) -> None:
    if as_json:
        documents = [_document(address, entries) for address, entries in zip(addresses, found, strict=True)]
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


def _document(address: str, entries: list[Entry]) -> dict[str, Any]:
    return {
        "address": PLAIN.written(address),
        "suppressed": bool(entries),
        "entries": [entry.document() for entry in entries],
    }
