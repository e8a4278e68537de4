"""A list on a terminal and in a pipe: nothing that people copy is broken, and programs get lines that they can cut."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from bridge.cli import console, lists
from bridge.cli.lists import Cell, Head, print_list, print_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

ID = "5f2b6c0d9e8a7f6b5c4d3e2f1a0b9c8d"
HEADS = (Head("ID", whole=True), Head("Reason", min_width=11), "Attempts", "Age")
MORE = (Head("Address", whole=True), Head("Event", whole=True), "Note")
ADDRESS = f"{'x' * 60}@a-long-name-of-a-domain.example.org"


@pytest.mark.parametrize(
    ("heads", "row", "whole"),
    [
        (HEADS, (ID, "unknown-message of somebody", 1234, Cell("1d 2h", 93_784)), [ID]),
        (MORE, (ADDRESS, ID, "note"), [ADDRESS, ID]),
    ],
)
@pytest.mark.parametrize("width", [40, 80, 200])
def test_no_id_is_broken_on_a_narrow_terminal(
    heads: Sequence[Head | str],
    row: tuple[str | int | Cell, ...],
    whole: list[str],
    width: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Where a table would break it, each row is lines."""
    monkeypatch.setattr(lists, "on_terminal", lambda: True)
    monkeypatch.setattr(console.terminal, "_width", width)
    print_rows(heads, [row, row])
    said = capsys.readouterr().out
    for text in whole:
        assert said.count(text) == 2


def test_a_pipe_gets_lines_with_tabs(capsys: pytest.CaptureFixture[str]) -> None:
    """Heads first; numbers as programs read them, no boxes, no colours, one line for each row."""
    print_rows(HEADS, [(ID, "a\tb\nc\x1b[31m", 1234, Cell("1d 2h", 93_784))])
    assert capsys.readouterr().out == f"ID\tReason\tAttempts\tAge\n{ID}\ta b c?[31m\t1234\t93784\n"


@pytest.mark.parametrize("items", [[], [{"a": 1}], [{"a": "\ud800"}, {"a": "\x9b"}]])
def test_a_list_for_programs_is_one_document(
    items: list[object], capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    """Of one shape, whatever is in it, with an item a line."""
    print_list(items, total=7, following="here", out_of_reach=1)
    said = capsysbinary.readouterr().out
    assert json.loads(said) == {"items": items, "total": 7, "next": "here", "out_of_reach": 1}
    assert len(said.splitlines()) == (len(items) + 2 if items else 1)
