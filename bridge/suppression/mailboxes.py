"""The mailboxes in a text as mail headers have them: `Bob <bob@example.org>`, `a@example.org, b@example.org`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

# The standard library's parser reads the same text differently from one release of Python to the next, and an address
# must not change its place on the list with Python. No pattern backtracks: `*+` and `++` keep what they have taken.
_TOKENS: Final = re.compile(
    r"""
      (?P<comment> \( (?: [^()\\] | \\. | \( (?:[^()\\]|\\.)*+ \) )*+ \) )
    | (?P<text> "(?:[^"\\]|\\.)*+" | (?<=@)\[[^\[\]]*+\] | [^"()\[<>,;]++ )
    | (?P<mark> . )
    """,
    re.VERBOSE | re.DOTALL,
)


class MailboxCandidate(NamedTuple):
    """What may be a mailbox."""

    text: str
    bracketed: bool
    """Whether it was in angle brackets: then it is meant as a mailbox. Otherwise it may be a piece of a display name."""


def mailbox_candidates(text: str) -> Iterator[MailboxCandidate]:
    """The texts between commas or semicolons, or in angle brackets, without comments, display names and surrounding blanks."""
    piece: list[str] = []
    in_brackets = named = False
    for token in _TOKENS.finditer(text):
        mark = token["mark"]
        if token["comment"] is not None:
            continue
        if mark == "<":
            if in_brackets and "@" in "".join(piece):
                yield MailboxCandidate("".join(piece), bracketed=True)  # it was never closed
            piece, in_brackets = [mark], True
        elif mark == ">" and in_brackets:
            yield MailboxCandidate(_without_route("".join(piece[1:])), bracketed=True)
            piece, in_brackets, named = [], False, True
        elif mark in {",", ";"} and not in_brackets:
            yield from _bare(piece, named=named)
            piece, named = [], False
        else:
            piece.append(token[0])
    yield from _bare(piece, named=named and not in_brackets)


def _bare(piece: list[str], *, named: bool) -> Iterator[MailboxCandidate]:
    text = "".join(piece).strip()
    if text and not named:  # text behind the brackets is no mailbox either
        yield MailboxCandidate(text, bracketed=False)


def _without_route(text: str) -> str:
    """`@relay.example:bob@example.org` -> `bob@example.org`: RFC 5322's obsolete route."""
    text = text.strip()
    return text.partition(":")[2].strip() if text.startswith("@") else text
