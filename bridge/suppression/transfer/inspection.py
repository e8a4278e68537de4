"""What a file is as a whole, before anything is done with it: its encoding, its length, its fingerprint. Blocking."""

from __future__ import annotations

import codecs
import hashlib
import shutil
import stat
import sys
import tempfile
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

STDIN: Final = "-"
MAX_LINE: Final = 1024 * 1024
"""Characters of a line, and of a cell: far more than an entry with its evidence has."""
CHUNK: Final = 1024 * 1024
"""Bytes that are read at once."""
_BOMS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # it begins with the one of UTF-16
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


class UnusableFileError(Exception):
    """The file cannot be imported as a whole. The message says which, what is wrong, and where."""


class Inspected(NamedTuple):
    """What the file is."""

    encoding: str
    lines: int
    """How many ends of lines it has."""
    digest: str
    """SHA-256 of its bytes."""


def open_source(path: str) -> BinaryIO:
    """The file, for reading from its beginning and again. What can be read only once is copied first, to a nameless file.

    Args:
        path: of a file or pipe; `-`: standard input.

    Raises:
        OSError: it cannot be read.
    """
    file = sys.stdin.buffer if path == STDIN else Path(path).open("rb")  # noqa: SIM115 -- the caller closes it
    if path != STDIN and stat.S_ISREG(Path(path).stat().st_mode):
        return file
    copy: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115 -- the same
    try:
        with file:
            shutil.copyfileobj(file, copy)
        copy.flush()
    except BaseException:
        copy.close()
        raise
    return copy


def inspect(file: BinaryIO, name: str) -> Inspected:
    """Read all of it once.

    Args:
        file: from its beginning.
        name: for messages.

    Raises:
        UnusableFileError: it is empty or no text, or a line is longer than `MAX_LINE`.
        OSError: it cannot be read.
    """
    file.seek(0)
    chunk = file.read(CHUNK)
    encoding = next((encoding for bom, encoding in _BOMS if chunk.startswith(bom)), "utf-8")
    decoder = codecs.getincrementaldecoder(encoding)()
    digest = hashlib.sha256()
    lines = length = 0
    blank = True
    while True:
        digest.update(chunk)
        try:
            text = decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            line = lines + 1 + chunk[: error.start].count(b"\n")
            raise unusable(
                name, line, "it is not UTF-8; save it as UTF-8, or as UTF-16 with a byte order mark"
            ) from None
        length = _checked(text, name, lines, length)
        lines += text.count("\n")
        blank = blank and (not text or text.isspace())
        if not chunk:
            break
        chunk = file.read(CHUNK)
    if blank:
        raise UnusableFileError(f"{name} is empty")
    return Inspected(encoding, lines, digest.hexdigest())


def unusable(name: str, line: int, why: str) -> UnusableFileError:
    """The error for what is wrong in this line."""
    return UnusableFileError(f"{name}, line {line}: {why}")


def _checked(text: str, name: str, lines: int, length: int) -> int:
    """The length of the line that has not ended, from that of the one before it; raises for what is no line."""
    if "\0" in text:
        line = lines + 1 + text[: text.index("\0")].count("\n")
        raise unusable(name, line, "it has NUL bytes: it is no text, or UTF-16 without a byte order mark")
    ends = text.find("\n")
    if length + (len(text) if ends < 0 else ends) > MAX_LINE:
        raise unusable(name, lines + 1, f"the line has more than {MAX_LINE:,} characters")
    return length + len(text) if ends < 0 else len(text) - text.rfind("\n") - 1
