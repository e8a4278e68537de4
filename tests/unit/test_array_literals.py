"""The literals of PostgreSQL's arrays, as its manual has them; PostgreSQL itself reads them in the tests of its store."""

from __future__ import annotations

import pytest

from bridge.suppression.array_literals import array_literal


@pytest.mark.parametrize(
    ("values", "literal"),
    [
        ([], "{}"),
        ([1, None, -(2**63)], "{1,null,-9223372036854775808}"),
        (["a", None, "null", ""], '{"a",null,"null",""}'),
        (["a,b", "{c}", "ž 😀"], '{"a,b","{c}","ž 😀"}'),
        (['"', "\\", None], r'{"\"","\\",NULL}'),
        (["a\nb"], '{"a\nb"}'),
        ([2**64], '{"18446744073709551616"}'),
        (["\ud800"], '{"\ud800"}'),
    ],
)
def test_a_list_is_written_as_the_literal_of_an_array(values: list[str | int | None], literal: str) -> None:
    """What JSON would write with a backslash of its own stands as it is; what cannot be stored is left to whoever refuses it."""
    assert array_literal(values) == literal
