"""What a page shows of a message, whatever it is."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from pamqp import commands as spec

from bridge.console import message_view as module
from bridge.console.message_view import message_view


def properties(**headers: Any) -> bytes:
    made = spec.Basic.Properties(headers=dict(headers), message_type="clicked", message_id="1")
    return made.marshal()


def test_json_is_indented_and_the_bytes_are_there_too() -> None:
    """An indented body is not what came: numbers and doubled names may have become others."""
    shown = message_view(properties(b=1, a="x"), b'{"a":[1.0],"n":1e400,"n":2}')
    assert (shown.kind, shown.size, shown.shown) == ("JSON", 27, 27)
    assert shown.text.splitlines()[1] == '  "a": ['
    assert shown.raw == '{"a":[1.0],"n":1e400,"n":2}'
    assert shown.headers == [("a", "x"), ("b", "1")]
    assert ("type", "clicked") in shown.properties


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"\xff\x00<script>", "bytes"),
        (b"", "text"),
        (b"not json", "text"),
        (b"[" * 60_000, "text"),
        (b"[" * 900 + b"]" * 900, "text"),
        (b'"\\ud800"', "JSON"),
        (b"<script>alert(1)</script>", "text"),
        (("é" * 40_000).encode(), "text"),
        (b"\xe9" + b"a" * 70_000, "bytes"),
        (b"[%s]" % b",".join(b"1" for _ in range(20_000)), "text"),
    ],
)
def test_no_body_is_too_strange_or_too_large(body: bytes, kind: str) -> None:
    """It is shown in part, and the text can be encoded."""
    shown = message_view(properties(), body)
    assert shown.kind == kind
    assert shown.size == len(body)
    assert shown.shown <= module.MOST_SHOWN
    assert len(shown.text.encode()) <= 6 * module.MOST_SHOWN


def test_bytes_are_shown_in_hexadecimal() -> None:
    """With their offsets, and what can be read of them."""
    shown = message_view(b"\x00\x00", b"\xff\x00<a>" + b"b" * 20)
    assert shown.text.splitlines()[0].startswith("000000  ff 00 3c 61 3e 62")
    assert shown.text.splitlines()[0].endswith("..<a>bbbbbbbbbbb")


def test_headers_of_any_type_and_length_are_shown() -> None:
    """Bytes, times, tables; what cannot be decoded is said."""
    shown = message_view(properties(a=bytearray(b"\xff"), b={"c": [1, None]}, d="x" * 10_000), b"")
    texts = dict(shown.headers)
    assert orjson.loads(texts["a"]) == {"base64": "/w=="}
    assert orjson.loads(texts["b"]) == {"c": [1, None]}
    assert texts["d"].endswith("… (10,000 characters)")
    assert message_view(b"\xff", b"").undecodable
