"""Addresses from a file or a pipe, one a line: read in portions, however long the file or one of its lines is."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_LONGEST_LINE: Final = 16_384
"""Bytes: more than the longest text with an address in it has (`addresses.MAX_TEXT_LENGTH` characters of four bytes)."""
_BOM: Final = b"\xef\xbb\xbf"


def address_lines(file: IO[bytes]) -> Iterator[str]:
    """The lines that are not empty, without surrounding blanks. Of a line that is too long, only its beginning.

    What is not UTF-8 comes as U+FFFD, which is in no address.
    """
    first = True
    while line := file.readline(_LONGEST_LINE):
        rest = line
        while len(rest) == _LONGEST_LINE and not rest.endswith(b"\n"):
            rest = file.readline(_LONGEST_LINE)
        text = line.removeprefix(_BOM) if first else line
        first = False
        if address := text.decode(errors="replace").strip():
            yield address
