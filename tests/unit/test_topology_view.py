"""`bridge topology plan` on a terminal: what is missing is green, what differs yellow, what is not planned red."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from rich.console import Console

from bridge.broker.topology import Binding, Queue, Topology
from bridge.broker.topology_diff import QUEUE, Difference, Differing, Stray, TopologyDiff
from bridge.cli import topology_view

if TYPE_CHECKING:
    import pytest


def test_each_kind_of_difference_has_its_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the counts have none."""
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, color_system="standard", width=200, highlight=False)
    monkeypatch.setattr(topology_view, "terminal", console)
    diff = TopologyDiff(
        queues=(Queue("new", {}),),
        bindings=(Binding("events", "new", "opened"),),
        differs=(Differing(QUEUE, "other", (Difference("x-max-length", 5, None),)),),
        strays=(Stray(QUEUE, "old", messages=1200),),
    )
    topology_view.print_diff(diff, Topology((), (), ()))
    assert written.getvalue().splitlines() == [
        "\x1b[32m+ queue new\x1b[0m",
        "\x1b[32m+ binding events → new opened\x1b[0m",
        "\x1b[33m~ queue other x-max-length: 5 → none\x1b[0m",
        "\x1b[31m- queue old 1,200 messages, 0 consumers\x1b[0m",
        "2 to create, 1 to change, 1 to remove",
    ]
