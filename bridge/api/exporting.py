"""The list as a file, streamed: it may be longer than the memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import web

from bridge.api import fields, pages
from bridge.suppression.errors import StoreError
from bridge.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bridge.api.access import Caller
    from bridge.api.open_list import OpenList
    from bridge.suppression.list_filter import ListFilter
    from bridge.suppression.transfer.exporting import Exporter, Format

log = logs.logger("api")

TYPES: Final[dict[Format, str]] = {
    "csv": "text/csv; charset=utf-8; header=present",
    "ndjson": "application/x-ndjson",
}
"""The forms of the file -> their content types."""
LAST_CHANGE_HEADER: Final = "Last-Change"
"""The id of a change: this and all before it are in the file, so whoever goes on with the next one misses none."""
_CHUNKS_BEFORE_THE_HEAD: Final = 2
"""The header of a CSV, and the first page: a list that does not answer is then a problem, not a file that ends early."""


class Exporting:
    """Writes the list out."""

    def __init__(self, opened: OpenList) -> None:
        """Args: the list."""
        self._opened = opened

    async def export(self, request: web.Request, _: Caller) -> web.StreamResponse:
        """The entries in force, ordered by address and reason."""
        given = fields.query(request, "format", "evidence", *pages.FILTERS)
        form: Format = "ndjson" if fields.query_choice(given, "format", TYPES) == "ndjson" else "csv"
        return await send_file(
            request,
            self._opened.store.exports,
            form,
            pages.list_filter(given),
            evidence=fields.query_flag(given, "evidence"),
        )


async def send_file(
    request: web.Request, exports: Exporter, form: Format, wanted: ListFilter, *, evidence: bool = False
) -> web.StreamResponse:
    """The answer with the entries in force, ordered by address and reason, while they are read.

    Args:
        request: that is answered.
        exports: of the list.
        form: of the file.
        wanted: which entries.
        evidence: whether the events as the provider sent them are in it.

    Raises:
        StoreError: the list cannot be read; nothing is sent yet.
    """
    # Before the first page: what is changed meanwhile may be in the file or not.
    last_change = await exports.last_change()
    chunks = exports.chunks(form, wanted, evidence=evidence)
    first = await _some(chunks, _CHUNKS_BEFORE_THE_HEAD)
    response = web.StreamResponse(
        headers={
            "Content-Type": TYPES[form],
            "Content-Disposition": f'attachment; filename="suppressions.{form}"',
            "Cache-Control": "no-store",
            LAST_CHANGE_HEADER: str(last_change),
        }
    )
    await response.prepare(request)
    for chunk in first:
        await response.write(chunk)
    try:
        async for chunk in chunks:
            await response.write(chunk)
    except StoreError as error:
        # The head is sent. Without the last chunk of the encoding the client knows that something is missing.
        _abort(request, error)
        return response
    await response.write_eof()
    return response


def _abort(request: web.Request, error: StoreError) -> None:
    log.error("an export ends early: the list failed", action="api.export_failed", reason=str(error))
    if request.transport is not None:
        request.transport.abort()


async def _some(chunks: AsyncIterator[bytes], count: int) -> list[bytes]:
    """At most so many of them."""
    found: list[bytes] = []
    while len(found) < count and (chunk := await anext(chunks, None)) is not None:
        found.append(chunk)
    return found
