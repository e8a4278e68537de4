"""The suppression list from and to files: imports, which go on where they were interrupted, and exports."""

from __future__ import annotations

import asyncio
import csv
import os
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

from bridge import private_files
from bridge.suppression.address_keys import keys_of
from bridge.suppression.policy import Policy, Reason
from bridge.suppression.store import Store
from bridge.suppression.transfer.cells import escaped
from bridge.suppression.transfer.importing import ImportState
from bridge.suppression.transfer.inspection import UnusableFileError
from bridge.suppression.transfer.rows import RowReader
from bridge.suppression.transfer.source_file import SourceFile
from bridge.suppression.transfer.staging import StagedRows

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from bridge.settings.sections import Settings
    from bridge.suppression.transfer.columns import Columns, Source
    from bridge.suppression.transfer.exporting import Condition, Format
    from bridge.suppression.transfer.importing import Imports, Manner
    from bridge.suppression.transfer.source_file import Rejection

    T = TypeVar("T")
    Moved = Callable[[int, int], None]
    """Is told how many rows or entries are done, and of how many."""

_STAGED: Final = 4_000
"""Rows that are brought into the order of the list at once."""
_SHOWN: Final = 10
"""Rejected rows that the result has."""


@dataclass(frozen=True, slots=True)
class ImportOrder:
    """What is imported, and how."""

    path: str
    """Of a file; `-`: standard input."""
    manner: Manner
    form: Format | None = None
    """None: the file says it."""
    reason: Reason | None = None
    """Of every row, whatever the file says."""
    rejected: Path | None = None
    """The file to which rejected rows are written."""
    dry_run: bool = False
    again: bool = False
    """Whether a file is imported anew that was imported before."""
    end_of: Callable[[Reason, int], int | None] = lambda _, __: None
    """When a row ends that has no end in the file, by its reason and time (Unix seconds); None: it does not."""


@dataclass(slots=True)
class ImportResult:
    """What an import has done."""

    source: Source
    form: Format
    state: ImportState
    resumed_at: int = 0
    """Rows that an interrupted run had done."""
    repeated: bool = False
    """Whether all of the file was imported before, so that nothing was done."""
    rejections: list[Rejection] = field(default_factory=list)
    """The first ones."""


async def import_file(settings: Settings, order: ImportOrder, moved: Moved) -> ImportResult:
    """Put the rows of a file on the list, some thousand rows in one transaction. An interrupted import goes on when it is run again.

    Raises:
        UnusableFileError: the file cannot be imported as a whole; nothing was changed.
        StoreError: the list cannot be changed; what was committed stays, and the next run goes on behind it.
        OSError: the file for rejected rows cannot be written.
    """
    async with _open(settings) as store:
        return await import_into(store, replace(order, end_of=_ends(settings)), moved)


def _ends(settings: Settings) -> Callable[[Reason, int], int | None]:
    """As the policy has it for events; a soft bounce ends as the first ones do."""
    policy = Policy.of(settings.suppression)

    def end_of(reason: Reason, at: int) -> int | None:
        if reason is Reason.SOFT_BOUNCE:
            return at + int(settings.suppression.soft_bounce_expiry)
        return policy.expires_at(reason, at)

    return end_of


async def import_into(store: Store, order: ImportOrder, moved: Moved) -> ImportResult:
    """The same into a list that is open."""
    await asyncio.to_thread(_check_distinct, order)
    source = await asyncio.to_thread(SourceFile.open, order.path, form=order.form, reason=order.reason)
    try:
        return await _imported(store.imports, source, order, moved)
    finally:
        source.close()


def _check_distinct(order: ImportOrder) -> None:
    """Writing the rejected rows must not destroy the file."""
    try:
        same = order.rejected is not None and order.rejected.samefile(order.path)
    except OSError:
        return  # one of them is not there
    if same:
        raise UnusableFileError(f"{order.path} is the file that is imported: --rejected must name another")


async def _imported(imports: Imports, source: SourceFile, order: ImportOrder, moved: Moved) -> ImportResult:
    fingerprint = f"{source.digest}:{source.form}:{order.reason or ''}"
    state = await _begun(imports, fingerprint, order)
    result = ImportResult(source.columns.source, source.form, state, resumed_at=state.done)
    if state.finished:
        result.repeated = True
        return result
    with StagedRows() as staged:
        rejected, total = await asyncio.to_thread(
            _stage, source, staged, order, result.rejections, now=imports.now()
        )
        async for rows in _read_ahead(staged.batches(imports.batch_size, skip=state.done)):
            if order.dry_run:
                state = state.after(await imports.preview(rows))
            else:
                state = await imports.put(fingerprint, state, rows, order.manner)
            moved(state.done, total)
    if not order.dry_run:
        await imports.finish(fingerprint, rejected=rejected)
    result.state = state._replace(rejected=rejected, finished=True)
    return result


async def _begun(imports: Imports, fingerprint: str, order: ImportOrder) -> ImportState:
    """How much of it is done already."""
    if not order.dry_run:
        return await imports.begin(fingerprint, again=order.again)
    return (None if order.again else await imports.known(fingerprint)) or ImportState()


def _stage(
    source: SourceFile, staged: StagedRows, order: ImportOrder, first: list[Rejection], *, now: int
) -> tuple[int, int]:
    """Bring all rows into the order of the list. Returns how many were rejected, and how many were not."""

    def reader_of(columns: Columns) -> RowReader:
        return RowReader(columns, written_at=min(source.written_at, now), now=now, end_of=order.end_of)

    rejected = accepted = 0
    with _rejected_rows(order.rejected, source) as write:
        for batch in source.batches(_STAGED, reader_of):
            staged.add(batch.rows)
            accepted += len(batch.rows)
            rejected += len(batch.rejections)
            first += batch.rejections[: _SHOWN - len(first)]
            for rejection in batch.rejections:
                write(rejection)
    return rejected, accepted


async def _read_ahead(batches: Iterator[T]) -> AsyncIterator[T]:
    """The batches: the next one is read in a thread while the database works on the one before."""
    reading = asyncio.create_task(asyncio.to_thread(next, batches, None), name="read ahead")
    try:
        while (batch := await reading) is not None:
            reading = asyncio.create_task(asyncio.to_thread(next, batches, None), name="read ahead")
            yield batch
    finally:
        await asyncio.wait([reading])  # it uses the file


@contextmanager
def _rejected_rows(path: Path | None, source: SourceFile) -> Iterator[Callable[[Rejection], None]]:
    """Writes rejected rows to this file, which only its owner can read. It is always whole: no run adds to another's."""
    if path is None:
        yield lambda _: None
        return
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, private_files.FILE_MODE)
    with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("line", "rejected_because", *(source.header or ("row",))))

        def write(rejection: Rejection) -> None:
            rows.writerow((rejection.line, rejection.why, *map(escaped, rejection.cells)))

        yield write


@dataclass(frozen=True, slots=True)
class ExportOrder:
    """What is exported, and as what."""

    form: Format
    chosen: Condition | None = None
    evidence: bool = False


async def export(settings: Settings, order: ExportOrder, write: Callable[[bytes], Any], moved: Moved) -> int:
    """Write the list out. Returns the number of entries.

    Raises:
        StoreError: the list cannot be read.
    """
    done = 0
    async with _open(settings) as store:
        total = sum((await store.count_by_reason()).values())
        async for part in store.exports.parts(order.form, order.chosen, evidence=order.evidence):
            await asyncio.to_thread(write, part.data)
            done += part.entries
            moved(done, total)
    return done


@asynccontextmanager
async def _open(settings: Settings) -> AsyncIterator[Store]:
    """The list; a missing one is an error."""
    suppression = settings.suppression
    url = suppression.database_url.get_secret_value()
    async with Store.open(url, create=False, keys=keys_of(suppression)) as store:
        yield store
