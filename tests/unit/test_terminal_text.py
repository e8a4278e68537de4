"""Foreign text is made harmless, and what is said in JSON is still said."""

from __future__ import annotations

import json

import orjson
from hypothesis import given
from hypothesis import strategies as st

from bridge.telemetry.terminal import clean, escaped, one_line

STEERING = [chr(code) for code in (*range(9), *range(0x0B, 0x20), *range(0x7F, 0xA0), 0x061C, 0x200E, 0x200F)]
STEERING += [
    chr(code) for code in (0x2028, 0x2029, *range(0x202A, 0x202F), *range(0x2066, 0x206A), 0xD800, 0xDFFF)
]
ANY_TEXT = st.text(st.characters() | st.sampled_from(STEERING))


def is_surrogate(character: str) -> bool:
    return "\ud800" <= character <= "\udfff"


@given(ANY_TEXT)
def test_nothing_that_steers_is_left(text: str) -> None:
    """And nothing else is touched."""
    cleaned = clean(text)
    assert not set(cleaned) & set(STEERING)
    assert all(
        was == now or was in STEERING or is_surrogate(was)
        for was, now in zip(text.replace("\r\n", "\n"), cleaned, strict=True)
    )
    assert not set(one_line(text)) & {*STEERING, "\n", "\t"}


@given(ANY_TEXT.filter(lambda text: not any(map(is_surrogate, text))))
def test_json_says_the_same_without_what_steers(text: str) -> None:
    """Indented or not: what stands between the strings steers nothing."""
    for options in (0, orjson.OPT_INDENT_2):
        document = escaped(orjson.dumps({text: [text]}, option=options).decode())
        assert not set(document) & set(STEERING)
        assert json.loads(document) == {text: [text]}


def test_windows_lines_are_lines() -> None:
    """A carriage return alone would write over what stands there."""
    assert clean("a\r\nb\rc") == "a\nb?c"
