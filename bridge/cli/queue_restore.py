"""What `bridge dead restore` and `bridge quarantine restore` do: put discarded messages back into their queue."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from bridge.cli.console import print_json, progress, terminal
from bridge.cli.queue_view import T, print_unread
from bridge.operations.restoring import Restored, messages_in, restore

if TYPE_CHECKING:
    from pathlib import Path

    from bridge.cli.queue_view import QueueView
    from bridge.operations.queue_messages import QueueOperations


def restore_messages(
    operations: QueueOperations[T], view: QueueView[T], path: Path, *, dry_run: bool, as_json: bool
) -> None:
    """Put the messages of a file back, and print the outcome. It raises an error of `queue_commands.ERRORS`."""
    restored, finished = Restored(), False
    try:
        with progress("putting back", messages_in(operations, path)) as advance:
            before = 0

            def moved() -> None:
                nonlocal before
                advance(restored.done - before)
                before = restored.done

            asyncio.run(restore(operations, path, restored, moved, dry_run=dry_run))
        finished = True
    finally:
        if as_json:
            print_json(_outcome(restored, dry_run=dry_run, finished=finished))
        else:
            _print(restored, view, dry_run=dry_run)
    if not as_json:
        print_unread(restored.unseen)


def _print(restored: Restored, view: QueueView[T], *, dry_run: bool) -> None:
    counted = view.counted(restored.published)
    done = f"{counted} would be put back" if dry_run else f"put back {counted}"
    there = f"; {restored.already_there:,} already there" if restored.already_there else ""
    terminal.print(f"{done} of {restored.total:,} in the file{there}")


def _outcome(restored: Restored, *, dry_run: bool, finished: bool) -> dict[str, Any]:
    return {
        "dry_run": dry_run,
        "in_file": restored.total,
        "restored": restored.published,
        "already_there": restored.already_there,
        "out_of_reach": restored.unseen,
        "finished": finished,
    }
