"""What `make cost` makes of what it counts, and how it keeps the confirms of RabbitMQ."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

from tests.programs.cost import figures
from tests.programs.cost.callgrind import CostError, functions_of, instructions_of
from tests.programs.cost.confirms import Channel, Frames, ack
from tests.programs.cost.figures import Figures, NoFiguresError

if TYPE_CHECKING:
    from pathlib import Path

_STATUS = """\
executed-bbs: 772354
events: Ir
threads: 1 2
current-tid: 1
events-1: 4608873
frames-1: 1
function-1-0: uv_run
calls-1-0: 66
events-1-0: 938736
events-2: 1000
"""


def test_the_instructions_of_all_threads_are_added_up_and_those_of_functions_are_not() -> None:
    """A function's are part of its thread's."""
    assert instructions_of(_STATUS) == 4_609_873


def test_functions_are_those_of_the_table_for_each_event() -> None:
    """Neither the total nor the headings; without the folders of their source files."""
    annotated = """\
Profiled target:  python -m bridge receiver (PID 1, part 2)
47,567,396 (100.0%)  PROGRAM TOTALS
14,187,179 (29.83%)  /build/Python/ceval.c:_PyEval_EvalFrameDefault [/usr/bin/python3.11]
   829,140 ( 1.74%)  ???:0x0001 [/usr/lib/x.so]
"""
    assert functions_of(annotated, 10) == [
        (1_418_717.9, "ceval.c:_PyEval_EvalFrameDefault"),
        (82_914.0, "???:0x0001"),
    ]


def test_a_status_without_figures_is_an_error() -> None:
    """As callgrind answers while it does not count."""
    with pytest.raises(CostError, match="instrumentation: off"):
        instructions_of("instrumentation: off\n")


def test_a_rise_of_more_than_five_percent_is_named_with_both_figures() -> None:
    """And nothing else is: not a smaller rise, not a fall, not a subject that the release has not."""
    before = {"receiver": 100_000, "worker": 100_000, "no-op": 100_000}
    now = {"receiver": 105_100, "worker": 104_900, "no-op": 50_000, "new": 1}
    assert figures.risen(before, now) == [
        "receiver: 105,100 instructions, 100,000 with the last release (+5.1%)"
    ]


def test_figures_are_read_as_they_were_written(tmp_path: Path) -> None:
    """Whole instructions."""
    path = tmp_path / "released.json"
    Figures({"python": "3.11.7"}, {"worker": 1234.4}).write(path)
    assert Figures.read(path) == Figures({"python": "3.11.7"}, {"worker": 1234})


@pytest.mark.parametrize("content", [None, "", "[]", "{}"])
def test_a_file_without_figures_says_how_to_make_them(tmp_path: Path, content: str | None) -> None:
    """Missing, empty, or something else."""
    path = tmp_path / "released.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(NoFiguresError, match="make cost ARGS=--write"):
        Figures.read(path)


def test_another_python_is_named() -> None:
    """And what is there only now, or only then."""
    assert figures.other_versions({"python": "3.11.7", "old": "1"}, {"python": "3.13.1", "new": "2"}) == [
        "python 3.11.7 then, 3.13.1 now", "old 1 then, none now", "new none then, 2 now",
    ]  # fmt: skip


def test_rounds_have_a_mean_and_a_spread() -> None:
    """The spread is from the least to the most."""
    assert figures.means([{"worker": 100}, {"worker": 102}]) == {"worker": 101}
    assert figures.spread([100, 102]) == pytest.approx(0.02)


def test_the_released_figures_are_of_subjects_that_there_are() -> None:
    """One that has been called otherwise since would be compared with nothing."""
    from tests.programs.cost.__main__ import SUBJECTS  # noqa: PLC0415 -- it loads all that is measured

    assert Figures.read().instructions.keys() <= {subject.name for subject in SUBJECTS}


def test_frames_are_cut_wherever_the_pieces_end() -> None:
    """Behind the header of a connection, which is none."""
    frames = [ack(1, 7), ack(2, 9)]
    data, cut = b"AMQP\x00\x00\x09\x01" + b"".join(frames), Frames()
    pieces = [data[:8], *(data[at : at + 1] for at in range(8, len(data)))]
    found = [frame for piece in pieces for frame in cut.of(piece)]
    assert [frame.whole for frame in found] == frames
    assert [struct.unpack_from(">QB", frame.payload, 4) for frame in found] == [(7, 1), (9, 1)]


def test_confirms_wait_for_the_last_and_go_on_in_tens() -> None:
    """However RabbitMQ sent them."""
    channel = Channel()
    for _ in range(25):
        channel.published()
    channel.confirmed(20, multiple=True)
    for tag in (25, 23, 21, 22):
        channel.confirmed(tag, multiple=False)
    complete = [channel.is_complete]
    channel.confirmed(24, multiple=False)
    complete.append(channel.is_complete)
    assert channel.pass_on() == [10, 20, 25]
    complete.append(channel.is_complete)
    assert complete == [False, True, False]
