"""The markers that say from where on the suppression queue is to be filled."""

from __future__ import annotations

import pytest

from bridge.broker import backfill_marker


def test_a_marker_says_its_offset() -> None:
    """And has an id of its own, by which it is taken away."""
    made = backfill_marker.make_marker("suppression.backfill", 7)
    assert backfill_marker._offset(made.body) == 7
    assert made.message_id != backfill_marker.make_marker("suppression.backfill", 7).message_id


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"[]",
        b"7",
        b"{}",
        b'{"offset": null}',
        b'{"offset": -1}',
        b'{"offset": true}',
        b'{"offset": "9"}',
    ],
)
def test_what_says_no_offset_means_from_the_beginning(body: bytes) -> None:
    """More than is due harms nobody: what was handled before is recognised."""
    assert backfill_marker._offset(body) is None
