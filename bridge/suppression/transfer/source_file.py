"""A file that is imported: its columns, and its rows, a batch at a time. Blocking."""

from __future__ import annotations

import csv
import io
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO, Final

import orjson

from bridge.suppression.transfer.cells import unescaped
from bridge.suppression.transfer.columns import UnrecognisedColumnsError, recognise, recognise_row
from bridge.suppression.transfer.inspection import (
    CHUNK,
    MAX_LINE,
    STDIN,
    UnusableFileError,
    inspect,
    open_source,
    unusable,
)
from bridge.suppression.transfer.rows import RejectedRowError

if TYPE_CHECKING:
    from _csv import Reader
    from collections.abc import Callable, Iterator, Sequence

    from bridge.suppression.policy import Reason
    from bridge.suppression.transfer.columns import Columns
    from bridge.suppression.transfer.exporting import Format
    from bridge.suppression.transfer.rows import ImportedRow, RowReader

    ReaderOf = Callable[[Columns], RowReader]

_DELIMITERS: Final = ",;\t"
_JSON_SUFFIXES: Final = (".ndjson", ".jsonl", ".json")


@dataclass(frozen=True, slots=True)
class Rejection:
    """A row that cannot be imported."""

    line: int
    """On which it begins, from 1."""
    why: str
    cells: Sequence[str]
    """Of a JSON line: the line."""


@dataclass(slots=True)
class RowBatch:
    """Rows that stand one after the other in the file."""

    rows: list[ImportedRow] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)
    line: int = 0
    """On which the last row begins."""

    @property
    def size(self) -> int:
        return len(self.rows) + len(self.rejections)


class SourceFile:
    """A file that was opened and read to its end once: nothing in it would stop an import half-way."""

    def __init__(self, file: BinaryIO, name: str, form: Format | None, reason: Reason | None) -> None:
        """Use `open` instead."""
        self.name = name
        self._file = file
        self._reason = reason
        self.written_at = int(os.fstat(file.fileno()).st_mtime)
        """When it was last written to, Unix seconds."""
        self._encoding, self.lines, self.digest = inspect(file, name)
        self.form: Format = form or self._guessed_form()
        self.header: Sequence[str] = ()
        """Of a CSV file; empty where it has none."""
        self._delimiter = self._guessed_delimiter()
        self.columns = self._columns_of_csv() if self.form == "csv" else self._columns_of_json()
        """Of a CSV file; of JSON lines, those of the first."""
        if self.form == "csv":
            for _ in self._records():  # whether a quotation mark is closed shows at the end
                pass

    @classmethod
    def open(cls, path: str, *, form: Format | None = None, reason: Reason | None = None) -> SourceFile:
        """Open it, and read it to its end once.

        Args:
            path: of a file; `-`: standard input.
            form: what it is; None: its name, or else its first character, says it.
            reason: of every row, whatever the file says.

        Raises:
            UnusableFileError: it cannot be read, is no text, or has no columns with addresses and reasons.
        """
        name = "standard input" if path == STDIN else path
        try:
            file = open_source(path)
            try:
                return cls(file, name, form, reason)
            except BaseException:
                file.close()
                raise
        except OSError as error:
            raise UnusableFileError(f"{name} cannot be read: {error.strerror}") from None
        except UnrecognisedColumnsError as error:
            raise UnusableFileError(f"{name}: {error}") from None

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def batches(self, size: int, reader_of: ReaderOf) -> Iterator[RowBatch]:
        """All rows of the file, so many at once.

        Args:
            size: rows of each batch; the last one has fewer.
            reader_of: makes what reads the rows with these columns.
        """
        rows = self._csv_rows(reader_of) if self.form == "csv" else self._json_rows(reader_of)
        batch = RowBatch()
        for line, row in rows:
            if isinstance(row, Rejection):
                batch.rejections.append(row)
            else:
                batch.rows.append(row)
            batch.line = line
            if batch.size == size:
                yield batch
                batch = RowBatch()
        if batch.size:
            yield batch

    def _csv_rows(self, reader_of: ReaderOf) -> Iterator[tuple[int, ImportedRow | Rejection]]:
        read = reader_of(self.columns).read
        for line, cells in self._records():
            plain = [unescaped(cell) if cell[:1] == "'" else cell for cell in cells]
            try:
                yield line, read(plain)
            except RejectedRowError as error:
                yield line, Rejection(line, str(error), plain)

    def _records(self) -> Iterator[tuple[int, list[str]]]:
        """The records behind the header, without empty lines, each with the line on which it begins."""
        line = 1
        with self._text() as text:
            reader = self._csv_reader(text)
            try:
                if self.header:
                    next(reader)
                    line = reader.line_num + 1
                for cells in reader:
                    if cells:
                        yield line, cells
                    line = reader.line_num + 1
            except csv.Error as error:
                raise unusable(self.name, line, _csv_trouble(error)) from None

    def _json_rows(self, reader_of: ReaderOf) -> Iterator[tuple[int, ImportedRow | Rejection]]:
        readers: dict[tuple[str, ...], RowReader] = {}
        for line, text in self._json_lines():
            try:
                document = _object_of(text)
                names = tuple(document)
                if names not in readers:
                    readers[names] = reader_of(self._recognised(names))
                yield line, readers[names].read([_cell(value) for value in document.values()])
            except (RejectedRowError, UnrecognisedColumnsError) as error:
                yield line, Rejection(line, str(error), [text.rstrip("\r\n")])

    def _json_lines(self) -> Iterator[tuple[int, str]]:
        with self._text() as text:
            for line, one in enumerate(text, start=1):
                if not one.isspace():
                    yield line, one

    def _text(self) -> io.TextIOWrapper:
        """The file from its beginning; one at a time."""
        self._file.seek(0)
        copy = os.fdopen(os.dup(self._file.fileno()), "rb", buffering=CHUNK)
        return io.TextIOWrapper(copy, encoding=self._encoding, newline="")

    def _guessed_form(self) -> Format:
        if self.name.lower().endswith(".csv"):
            return "csv"
        if self.name.lower().endswith(_JSON_SUFFIXES):
            return "ndjson"
        with self._text() as text:
            return "ndjson" if text.read(CHUNK).lstrip().startswith("{") else "csv"

    def _guessed_delimiter(self) -> str:
        with self._text() as text:
            line = text.readline()
        return max(_DELIMITERS, key=line.count)

    def _csv_reader(self, text: io.TextIOWrapper) -> Reader:
        csv.field_size_limit(MAX_LINE)  # of the whole process: nothing else in it reads CSV
        return csv.reader(text, delimiter=self._delimiter, strict=True)

    def _columns_of_csv(self) -> Columns:
        with self._text() as text:
            try:
                cells = next(self._csv_reader(text))
            except csv.Error as error:
                raise unusable(self.name, 1, _csv_trouble(error)) from None
        first = [unescaped(cell) for cell in cells]
        if (columns := recognise_row(first, reason=self._reason, file_name=self.name)) is not None:
            return columns
        self.header = first
        return self._recognised(first)

    def _columns_of_json(self) -> Columns:
        line, text = next(self._json_lines())
        try:
            return self._recognised(tuple(_object_of(text)))
        except RejectedRowError as error:
            raise unusable(self.name, line, str(error)) from None

    def _recognised(self, names: Sequence[str]) -> Columns:
        return recognise(names, reason=self._reason, file_name=self.name)


def _object_of(text: str) -> dict[str, object]:
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise RejectedRowError(f"it is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise RejectedRowError("it is no JSON object: each line must be one")
    return document


def _cell(value: object) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else str(value)


def _csv_trouble(error: csv.Error) -> str:
    text = str(error)
    if "field larger" in text:
        return f"a cell has more than {MAX_LINE:,} characters; is a quotation mark not closed?"
    if "unexpected end" in text:
        return "a quotation mark is not closed until the end of the file"
    return f"it is not CSV: {text}"
