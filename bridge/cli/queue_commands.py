"""What `bridge dead` and `bridge quarantine` do: list, show, replay and discard the messages of a queue."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple

import typer
from rich.text import Text

from bridge.amqp.errors import BrokerUnavailableError, TopologyRefusedError
from bridge.cli.console import BAD_USAGE, fail, on_terminal, print_json, progress, terminal
from bridge.cli.lists import MAX_TERMINAL_ROWS, print_list, print_summary
from bridge.cli.queue_view import NO_EVENT, T, print_unread
from bridge.dead_letters import message_file
from bridge.dead_letters.message_file import MessageFile, MessageFileError
from bridge.dead_letters.queue_reader import BusyError
from bridge.timestamps import unix_ms_now

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from bridge.cli.queue_view import QueueView
    from bridge.operations.queue_messages import MessageList, QueueOperations

ERRORS: Final = (BrokerUnavailableError, TopologyRefusedError, BusyError, MessageFileError)


class Page(NamedTuple, Generic[T]):
    """A part of a list."""

    rows: list[T]
    following: str | None
    """For `--after`; None where nothing follows."""


@dataclass(frozen=True, slots=True)
class QueueCommands(Generic[T]):
    """The commands on one queue. Each prints its outcome, and raises an error of `ERRORS` if RabbitMQ or the file fails."""

    operations: QueueOperations[T]
    view: QueueView[T]
    as_json: bool

    def list_messages(self, wanted: Callable[[T], bool], *, limit: int | None, after: str | None) -> None:
        found = asyncio.run(self.operations.select(wanted))
        shown = self._page(found.messages, limit, after)
        now = unix_ms_now()
        total = len(found.messages)
        if self.as_json:
            rows = (self.view.row(message, now) for message in shown.rows)
            print_list(rows, total=total, following=shown.following, out_of_reach=found.unseen)
            return
        self.view.print_list(shown.rows, now)
        more = f"; more with --after {shown.following}" if shown.following else ""
        print_summary(f"{len(shown.rows):,} of {self.view.counted(total)}{more}")
        print_unread(found.unseen)

    def show(self, message_id: str) -> None:
        found = asyncio.run(self.operations.find(lambda message: message.id == message_id))
        if found is None:
            fail(self.view.not_found.format(message_id))
        if self.as_json:
            print_json(message_file.as_json(self.view.document(found)))
            return
        for line in self.view.lines(found, unix_ms_now()):
            terminal.print(Text(line))

    def replay(
        self, wanted: Callable[[T], bool], *, ids: Sequence[str] | None, rate: float, dry_run: bool
    ) -> None:
        found = asyncio.run(self.operations.select(wanted, before_removal=True))
        if dry_run:
            self._print_dry_run(found, "replayed", ids, self.view.preview_of_replay)
            return
        staying = [message for message in found.messages if self.view.problem(message)]
        done: list[str] = []
        unseen: int | None = None
        try:
            with progress("replaying", len(found.messages) - len(staying)) as advance:

                def moved(message: T) -> None:
                    done.append(message.id)
                    advance()

                unseen = asyncio.run(self.operations.replay(wanted, rate=rate, moved=moved))
        finally:
            self._print_replayed(found, staying, done, ids, unseen)
        if staying and not self.as_json:
            terminal.print(f"{self.view.counted(len(staying))} stayed: still {NO_EVENT}")
        print_unread(unseen)
        if ids and staying:
            fail("; ".join(f"{message.id}: {self.view.problem(message)}" for message in staying))
        self._fail_for_missing(ids, done)

    def discard(
        self,
        wanted: Callable[[T], bool],
        *,
        ids: Sequence[str] | None,
        to: Path | None,
        yes: bool,
        dry_run: bool,
    ) -> None:
        path = to or message_file.unused_path(Path(), self.view.file_stem)
        if os.path.lexists(path):  # false in a folder that may not be entered: writing there says so
            fail(f"{path} exists already, and is not overwritten; name another", BAD_USAGE)
        found = asyncio.run(self.operations.select(wanted, before_removal=True))
        if dry_run or not found.messages:
            self._print_dry_run(found, "discarded", ids, "to be discarded")
            self._fail_for_missing(ids, [message.id for message in found.messages])
            return
        if not yes and not self.as_json:
            self.view.print_counts(found, f"to be discarded, and kept only in {path}")
        self._confirm("Discard them?", yes=yes)
        # Only those that were counted and confirmed: others may have come since.
        agreed = frozenset(message.id for message in found.messages)
        done: list[str] = []
        unseen: int | None = None
        file = MessageFile(path, self.view.document)
        try:
            with progress("discarding", len(found.messages)) as advance, file:

                def discarded(message: T) -> None:
                    done.append(message.id)
                    advance()

                discarding = self.operations.discard(
                    lambda message: message.id in agreed, file=file, discarded=discarded
                )
                unseen = asyncio.run(discarding)
        finally:
            self._print_discarded(found, file, done, ids, unseen)
        print_unread(unseen)
        self._fail_for_missing(ids, done)

    def _page(self, found: Sequence[T], limit: int | None, after: str | None) -> Page[T]:
        """An `after` that is not there any more ends the command with one line."""
        rest = [*found]
        if after is not None:
            names = _names(found)
            if after not in names:
                fail(f"--after: '{after}' is not among {self.view.where}; begin anew without it")
            rest = rest[names.index(after) + 1 :]
        most = limit or (MAX_TERMINAL_ROWS if on_terminal() and not self.as_json else len(rest))
        more = most < len(rest)
        return Page(rest[:most], _names(found)[len(found) - len(rest) + most - 1] if more else None)

    def _print_dry_run(
        self, found: MessageList[T], verb: str, ids: Sequence[str] | None, preview: str
    ) -> None:
        if not self.as_json:
            self.view.print_counts(found, preview)
            return
        missing = _absent(ids, [message.id for message in found.messages])
        counts = self.view.counts_document(found)
        print_json(_outcome(verb, found, 0, missing, found.unseen, dry_run=True, counts=counts))

    def _print_replayed(
        self,
        found: MessageList[T],
        staying: Sequence[T],
        done: Sequence[str],
        ids: Sequence[str] | None,
        unseen: int | None,
    ) -> None:
        if not self.as_json:
            terminal.print(f"replayed {self.view.counted(len(done))}")
            return
        left = found.messages if unseen is None else staying  # after an interruption the rest is there, too
        missing = _absent(ids, [*done, *(message.id for message in left)])
        more: dict[str, Any] = {self.view.key_of_staying: len(staying)} if self.view.key_of_staying else {}
        print_json(_outcome("replayed", found, len(done), missing, unseen, **more))

    def _print_discarded(
        self,
        found: MessageList[T],
        file: MessageFile[T],
        done: Sequence[str],
        ids: Sequence[str] | None,
        unseen: int | None,
    ) -> None:
        kept_in = str(file.path) if done else None
        if self.as_json:
            missing = _absent(ids, done)
            print_json(_outcome("discarded", found, len(done), missing, unseen, file=kept_in))
        else:
            where = f", kept in {kept_in}" if kept_in else ""
            terminal.print(f"discarded {self.view.counted(len(done))}{where}")

    def _confirm(self, question: str, *, yes: bool) -> None:
        """Ask for confirmation. A program cannot answer, so `--json` requires `--yes`."""
        if yes:
            return
        if self.as_json:
            fail("--json needs --yes: there is nobody to confirm it", BAD_USAGE)
        typer.confirm(question, abort=True, err=not on_terminal())

    def _fail_for_missing(self, ids: Sequence[str] | None, done: Collection[str]) -> None:
        if missing := _absent(ids, done):
            fail(f"not among {self.view.where}: {', '.join(missing)}")


def require_one_selection(ids: Collection[str], *, conditions: bool, everything: bool) -> None:
    """Fail unless there are either ids, or conditions, or --all."""
    if bool(ids) + conditions + everything != 1:
        fail("give either ids, or conditions such as --reason, or --all", BAD_USAGE)


def _outcome(
    verb: str,
    found: MessageList[T],
    done: int,
    missing: Sequence[str],
    unseen: int | None,
    *,
    dry_run: bool = False,
    **more: Any,
) -> dict[str, Any]:
    """What was done, for programs.

    Args:
        verb: `replayed` or `discarded`.
        found: what was chosen.
        done: how many were replayed or discarded.
        missing: ids that were asked for, and are not in the queue.
        unseen: how many were not read, because they lie beyond the first ones; None if it was interrupted.
        dry_run: whether nothing was to be changed.
        more: further keys of the document.
    """
    return {
        "dry_run": dry_run,
        "chosen": len(found.messages),
        verb: done,
        "missing": missing,
        "out_of_reach": unseen,
        "finished": unseen is not None,
        **more,
    }


def _absent(ids: Sequence[str] | None, there: Collection[str]) -> Sequence[str]:
    """The ids that were asked for, and were not found."""
    return sorted(set(ids or ()) - set(there))


def _names(found: Sequence[T]) -> Sequence[str]:
    """Each message's id; a second one with the same id gets `ID#2`."""
    seen: Counter[str] = Counter()
    names = []
    for one in found:
        seen[one.id] += 1
        names.append(one.id if seen[one.id] == 1 else f"{one.id}#{seen[one.id]}")
    return names
