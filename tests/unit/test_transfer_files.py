"""Files that are imported: what is wrong with one as a whole, and that what was exported is read as the same."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.suppression.policy import Reason
from bridge.suppression.transfer import exporting
from bridge.suppression.transfer.inspection import MAX_LINE, UnusableFileError
from bridge.suppression.transfer.rows import ImportedRow, RowReader
from bridge.suppression.transfer.source_file import Rejection, SourceFile
from bridge.suppression.transfer.staging import StagedRows

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.quick

NOW = 1_700_000_000
TEXT = "address,reason\r\nj@x.org,bounce\r\nk@x.org,complaint\r\n"


def rows_of(path: Path, **options: Any) -> tuple[list[ImportedRow], list[Rejection]]:
    """All rows of a file."""
    source = SourceFile.open(str(path), **options)
    rows, rejections = [], []
    try:
        for batch in source.batches(2, lambda columns: RowReader(columns, written_at=1, now=NOW)):
            rows += batch.rows
            rejections += batch.rejections
    finally:
        source.close()
    return rows, rejections


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "list.csv"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_file_is_read_in_every_encoding_that_it_names(file: Path, encoding: str) -> None:
    """By its byte order mark; without one it is UTF-8."""
    file.write_bytes(TEXT.encode(encoding))
    rows, _ = rows_of(file)
    assert [(row.address, row.reason) for row in rows] == [
        ("j@x.org", "hard_bounce"),
        ("k@x.org", "complaint"),
    ]


@pytest.mark.parametrize("separator", [";", "\t"])
def test_spreadsheets_separate_cells_in_other_ways(file: Path, separator: str) -> None:
    """Where a comma stands in numbers."""
    file.write_text(TEXT.replace(",", separator))
    assert len(rows_of(file)[0]) == 2


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is empty"),
        (b"\xef\xbb\xbf \r\n\n", "is empty"),
        (TEXT.encode("utf-16-le"), "line 1: it has NUL bytes.*UTF-16 without a byte order mark"),
        (b"address,reason\na@x.org,bounce\nb@x.\0org,bounce\n", "line 3: it has NUL bytes"),
        (b"address,reason\na@x.org,bounce\nj\xe9@x.org,bounce\n", "line 3: it is not UTF-8"),
        (b"\x7fELF\x02\x01\x01\x00\x00", "line 1: it has NUL bytes"),
        (b"name,reason\nj@x.org,bounce\n", "no column has the addresses: the header is 'name,reason'"),
        (b"address,name\nj@x.org,bounce\n", "nothing says why"),
        (b'address,reason\na@x.org,bounce\n"b@x.org,bounce\nc@x.org,bounce\n', "line 3: a quotation mark is not closed"),
        (b'address,reason\na@x.org,bounce\n"b@x.org"d,bounce\n', "line 3: it is not CSV"),
        (b'address,"reason\nj@x.org,bounce\n', "line 1: a quotation mark is not closed"),
        (b"address,reason\n" + b"a" * (MAX_LINE + 1), "line 2: the line has more than 1,048,576 characters"),
        (b"a" * (3 * MAX_LINE) + b"\nb", "line 1: the line has more than 1,048,576 characters"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_list_is_refused_before_anything_is_done(
    file: Path, content: bytes, why: str
) -> None:
    """The message says which file, what is wrong with it, and where: one line."""
    file.write_bytes(content)
    with pytest.raises(UnusableFileError, match=why) as raised:
        SourceFile.open(str(file))
    assert str(raised.value).startswith(str(file))
    assert "\n" not in str(raised.value)


def test_a_cell_may_have_no_more_than_a_line(file: Path) -> None:
    """Where a quotation mark is not closed, it would take up the rest of the file."""
    file.write_bytes(b'address,reason\n"b@x.org,bounce\n' + b"c@x.org,bounce\n" * (MAX_LINE // 10))
    with pytest.raises(
        UnusableFileError, match=r"line 2: a cell has more than .* a quotation mark not closed\?"
    ):
        SourceFile.open(str(file))


@pytest.mark.parametrize("path", ["", "missing.csv"])
def test_what_cannot_be_read_is_named(tmp_path: Path, path: str) -> None:
    """A folder, and a file that is not there."""
    with pytest.raises(
        UnusableFileError, match=r"cannot be read: (Is a directory|No such file or directory)"
    ):
        SourceFile.open(str(tmp_path / path))


def test_rejected_rows_are_named_by_their_line(file: Path) -> None:
    """A cell may have several lines; empty lines are no rows."""
    file.write_text('address,reason,error\n\na@x.org,bounce,"two\nlines"\nnobody,bounce,x\n\nb@x.org,odd,y\n')
    rows, rejections = rows_of(file)
    assert [row.address for row in rows] == ["a@x.org"]
    assert [(one.line, one.cells[0]) for one in rejections] == [(5, "nobody"), (7, "b@x.org")]


def test_json_lines_need_no_common_keys(tmp_path: Path) -> None:
    """What is wrong with one is said of that line; the first must be an object with an address."""
    file = tmp_path / "list"
    file.write_text(
        '\n{"EmailAddress": "a@x.org", "Reason": "BOUNCE", "LastUpdateTime": 1539062173.5}\n'
        '{"reason": "COMPLAINT", "emailAddress": "b@x.org", "more": [1]}\n[1]\n{"a": \n{"name": "c@x.org"}\n'
        '{"EmailAddress": null, "Reason": "BOUNCE"}\n'
    )
    rows, rejections = rows_of(file)
    assert [(row.address, row.reason, row.last_event_at) for row in rows] == [
        ("a@x.org", "hard_bounce", 1539062173),
        ("b@x.org", "complaint", 1),
    ]
    assert [one.line for one in rejections] == [4, 5, 6, 7]
    file.write_text('{"name": 1}\n')
    with pytest.raises(UnusableFileError, match="no column has the addresses"):
        SourceFile.open(str(file))
    file.write_text("[]\n")
    with pytest.raises(UnusableFileError, match="line 1: it is no JSON object"):
        SourceFile.open(str(file), form="ndjson")


SECONDS = st.integers(0, 4_000_000_000)
MAILBOXES = st.sampled_from(
    ["jane@example.org", "=cmd|'a'@example.org", "+@x.org", "'-@x.org", '"a, b"@example.org', "αβγ@xn--mxa.org", "@@x.org", '"@ "@x.org']
)  # fmt: skip


def _entries() -> st.SearchStrategy[tuple[Any, ...]]:
    text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
    evidence = st.none() | st.binary(min_size=1)
    return st.tuples(
        MAILBOXES, st.sampled_from(list(Reason)), text, SECONDS, SECONDS, st.integers(1, 2**31 - 1), st.none() | text,
        SECONDS, SECONDS, st.none() | SECONDS, evidence,
    )  # fmt: skip


@settings(max_examples=60)
@given(st.lists(_entries(), min_size=1), st.sampled_from(["csv", "ndjson"]))
def test_what_is_exported_is_read_as_the_same(entries: list[tuple[Any, ...]], form: Any) -> None:
    """Every value of every entry, whatever characters it has, in both formats."""
    entries = [
        (*entry[:3], min(entry[3:5]), max(entry[3:5]), *entry[5:])
        for entry in entries
        if entry[0][:2] != "@@"
    ]
    names = (*exporting.COLUMNS, exporting.EVIDENCE)
    written = exporting._csv if form == "csv" else exporting._ndjson
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "list")
        head = exporting._lines([names]) if form == "csv" else b""
        file.write_bytes(head + written(names, entries))
        if not entries:
            return
        rows, rejections = rows_of(file, form=form)
    assert not rejections
    expected = [
        ImportedRow(
            address,
            reason.value,
            original,
            first,
            last,
            count,
            message_id,
            evidence,
            created,
            updated,
            expires,
        )
        for address, reason, original, first, last, count, message_id, created, updated, expires, evidence in entries
    ]
    assert rows == expected


def test_rows_are_staged_in_the_order_of_the_list(tmp_path: Path) -> None:
    """Those of one address are in one batch; those that are done are skipped."""
    del tmp_path

    def row(address: str, reason: str, at: int) -> ImportedRow:
        return ImportedRow(address, reason, address, at, at, evidence=b"\0\xff")

    rows = [row("b", "x", 1), row("a", "y", 2), row("c", "x", 3), row("a", "x", 4), row("b", "x", 5)]
    ordered = [rows[3], rows[1], rows[0], rows[4], rows[2]]

    def batches(size: int, skip: int) -> Iterator[list[ImportedRow]]:
        return staged.batches(size, skip=skip)

    with StagedRows() as staged:
        staged.add(rows[:3])
        staged.add(rows[3:])
        assert list(batches(1, 0)) == [ordered[:2], ordered[2:4], ordered[4:]]
        assert list(batches(3, 2)) == [ordered[2:]]
        assert list(batches(3, 5)) == []
