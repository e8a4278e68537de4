"""`bridge suppressions erase`, `hash` and `keys`: what the list keeps of a person."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from bridge.broker.topology import Names
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
from bridge.cli.lists import print_list, print_rows
from bridge.cli.options import AsJson, DryRun, ListJson
from bridge.cli.suppressions_answer import answer
from bridge.cli.suppressions_options import Actor, Note
from bridge.operations import privacy as operations
from bridge.suppression.errors import StoreError
from bridge.suppression.hashing import PLAIN_TEXT

if TYPE_CHECKING:
    from bridge.cli.lists import Cell
    from bridge.operations.privacy import Erasure
    from bridge.settings.sections import Settings

ERASE_EPILOG: Final = page(
    'suppressions erase jane@example.org --note "asked by letter of 2 May" --yes',
    *LIST,
    codes={1: "there is no privacy key, or the list or the spool could not be read or written: run it again"},
)
HASH_EPILOG: Final = page("suppressions hash", *LIST)
KEYS_EPILOG: Final = page("suppressions keys --json", *LIST)

Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@fails_with(StoreError, OSError)
def erase(
    context: typer.Context,
    address: Annotated[str, typer.Argument(help="An e-mail address, in any spelling.")],
    *,
    actor: Actor,
    note: Note = "",
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Erase a person from the list, its history, the known messages and this machine's spool; for good.

    A keyed hash of the address stays with the reasons, so that the person stays suppressed. What others still hold is said.
    """
    settings = settings_with_logs(context, "error")
    if not (yes or dry_run):
        if as_json:
            fail("--json needs --yes: there is nobody to confirm it", BAD_USAGE)
        typer.confirm(f"Erase {address} for good?", abort=True, err=not on_terminal())
    done = answer(operations.erase(settings, address, actor=actor, note=note, dry_run=dry_run))
    left = _left(settings, done)
    if as_json:
        print_json({"dry_run": dry_run} | _document(done) | {"left": left})
        return
    for line in (
        *_lines(done, dry_run=dry_run),
        "What is not erased by this:",
        *(f"- {one}" for one in left),
    ):
        terminal.print(Text(line))


@fails_with(StoreError)
def hash_(context: typer.Context, as_json: AsJson = False) -> None:
    """Put a keyed hash in the place of each address on the list, after suppression.privacy was set to hmac."""
    settings = settings_with_logs(context, "error")
    columns = (TextColumn("addresses and messages hashed"), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(
        *columns, console=terminal, disable=as_json or not on_terminal(), transient=True
    ) as progress:
        bar = progress.add_task("", total=None)
        hashed = answer(operations.hash_all(settings, lambda count: progress.advance(bar, count)))
    if as_json:
        print_json({"hashed": hashed})
    else:
        terminal.print(Text(f"{hashed:,} addresses and messages hashed; now run `bridge db vacuum`"))


@fails_with(StoreError)
def keys(context: typer.Context, as_json: ListJson = False) -> None:
    """Count what stands under each privacy key: one under which nothing stands is not needed any more."""
    counts = answer(operations.count_keys(settings_with_logs(context, "error")))
    if as_json:
        print_list([{"key": count.key_id or None} | count.rows for count in counts], total=len(counts))
        return
    names = list(counts[0].rows)
    rows: list[tuple[str | int | Cell, ...]] = [
        (_shown(count.key_id), *(count.rows[name] for name in names)) for count in counts
    ]
    print_rows(("Key", *(name.replace("_", " ").capitalize() for name in names)), rows)


def _shown(key_id: str) -> str:
    return {PLAIN_TEXT: "(plain text)", "?": "(unknown)"}.get(key_id, key_id)


def _document(done: Erasure) -> dict[str, Any]:
    return done.database.document() | {
        "spool": {
            "erased": done.spool.erased,
            "in_use": done.spool.in_use,
            "unread": [str(path) for path in done.spool.unread],
        }
    }


def _lines(done: Erasure, *, dry_run: bool) -> list[str]:
    erased = done.database
    verb = "would erase" if dry_run else "erased"
    found = {
        what: count for what, count in (erased.found | {"spooled events": done.spool.erased}).items() if count
    }
    what = ", ".join(f"{count:,} {name}" for name, count in found.items()) or "nothing"
    stays = f"stays suppressed ({', '.join(erased.reasons)})" if erased.reasons else "is not suppressed"
    again = "; it was erased before" if erased.repeated else ""
    return [f"{verb}: {what}{again}", f"the person is {erased.key} from now on, and {stays}"]


def _left(settings: Settings, done: Erasure) -> list[str]:
    """What still holds the address, or raw events of the person, until it ages out or somebody does something."""
    names = Names(settings.rabbitmq.prefix)
    left = [
        (
            f"RabbitMQ: the archive {names.archive} keeps the events, which name the messages, for "
            f"{settings.rabbitmq.archive_max_age}; queues keep events and changes until they are consumed, dead letters "
            "until they are discarded"
        ),
        "other services that have read the list or its changes: the change `erased` tells them the hash, not the address",
        "backups of the database, and with PostgreSQL its write-ahead log and replicas, and its own log where that has values",
        "the database's files have deleted rows in pages that are not used anew yet: run `bridge db vacuum`",
        f"spool folders of receivers on other machines; this was {settings.spool.directory}",
        "log files that were written with logs.mask_addresses = false",
    ]
    if done.spool.in_use:
        left.append(
            f"{done.spool.in_use} events in spool files that a receiver uses: it publishes them when RabbitMQ takes them"
        )
    left += [f"{path} could not be read: it may hold events of the person" for path in done.spool.unread]
    return left
