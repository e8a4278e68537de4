"""Reads the JSON object of an answer tolerantly: a broken part that is not needed must not make it unreadable."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterator

_BLANK: Final = re.compile(r"[ \t\r\n]*")
_SURROGATES: Final = re.compile("[\ud800-\udfff]")
_BRACKETED: Final = re.compile(r"<[^<>]*>\s*\Z")
# Integers stay text: Python refuses one of 5,000 digits, and we do not compute with them.
_TOLERANT: Final = json.JSONDecoder(strict=False, parse_int=str)


def parse_objects(body: bytes) -> Iterator[dict[str, Any]]:
    """The object as a strict parser reads it, if it is well-formed; then the object as a tolerant parser reads it.

    The tolerant parser accepts a byte-order mark, bytes that are not text, lone surrogates, NaN and control characters. If
    the object is broken or cut off, it returns the members before that.
    """
    try:
        strict = orjson.loads(body)
    except orjson.JSONDecodeError:
        strict = None
    if isinstance(strict, dict):
        yield strict
    tolerant = _as_far_as_readable(body.decode(json.detect_encoding(body), errors="replace"))
    if tolerant is not None:
        yield tolerant


def intact_text(value: Any) -> str | None:
    """The value if it is text without replacement characters or lone surrogates; else None."""
    if not isinstance(value, str) or not value.strip() or "\ufffd" in value:
        return None
    return None if any("\ud800" <= character <= "\udfff" for character in value) else value


def recipient(value: Any) -> str | None:
    """Text that names a mailbox which came through as it was written; the name in front of it may be damaged."""
    if not isinstance(value, str):
        return None
    text = _SURROGATES.sub("\ufffd", value)
    bracketed = _BRACKETED.search(text)
    return None if intact_text(text if bracketed is None else bracketed[0]) is None else text


def id_text(value: Any) -> str | None:
    """An id as text. Some servers write it as a number, others as text."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value) if isinstance(value, int | str) and not isinstance(value, bool) else None


def _as_far_as_readable(text: str) -> dict[str, Any] | None:
    at = _after_blank(text, 0)
    if not text.startswith("{", at):
        return None
    found: dict[str, Any] = {}
    more = True
    while more:
        try:
            key, at = _TOLERANT.raw_decode(text, _after_blank(text, at + 1))
            at = _after_blank(text, at)
            if not isinstance(key, str) or not text.startswith(":", at):
                break
            value, at = _TOLERANT.raw_decode(text, _after_blank(text, at + 1))
        except (ValueError, RecursionError):
            break
        found[key] = value
        at = _after_blank(text, at)
        more = text.startswith(",", at)
    return found


def _after_blank(text: str, at: int) -> int:
    blank = _BLANK.match(text, at)
    return at if blank is None else blank.end()
