"""What a message for a test costs, made by `bridge.testing`: the price of a test with a hundred thousand of them."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Annotated, Final, NamedTuple

import typer
from rich.console import Console
from rich.table import Table

from bridge import testing
from bridge.testing.builders import AT
from tests.programs import program

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridge.testing import BridgeMessage
    from tests.programs.bench.throughput import Say

EVENT: Final = "event"
NUMBER: Final = 20_000


class BuildingRow(NamedTuple):
    """One kind of message."""

    kind: str
    cpu_us: float
    """For each message, the median of the rounds."""


def _kinds() -> dict[str, Callable[[int], BridgeMessage]]:
    """Each message another one, so that nothing is kept from the one before it."""
    original = testing.event("hard_bounced")
    return {
        EVENT: lambda number: testing.event("opened", message_id=number),
        "event, clicked, a second later each time": lambda number: testing.event(
            "clicked", message_id=number, at=AT + number
        ),
        "event, from a posted body": lambda number: testing.from_body(
            b'{"message":{"id":%d},"event":{"name":"opened","timestamp":1539062173}}' % number
        ),
        "change of the list": lambda number: testing.change(
            "added", f"r{number}@example.org", change_id=number + 1
        ),
        "malformed": lambda number: testing.malformed(b'{"number":%d}' % number),
        "dead letter": lambda number: testing.dead_letter(original, attempts=number),
    }


def measure(*, rounds: int, number: int = NUMBER, say: Say) -> list[BuildingRow]:
    """Build messages of each kind, in turn.

    Args:
        rounds: how often each kind is measured.
        number: messages of each measurement.
        say: told of each figure as it comes, one line.
    """
    kinds = _kinds()
    taken: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(rounds):
        for kind, make in kinds.items():
            began = time.process_time()
            for one in range(number):
                make(one)
            taken[kind].append((time.process_time() - began) / number)
    rows = [BuildingRow(kind, statistics.median(found) * 1e6) for kind, found in taken.items()]
    for row in rows:
        say(f"{row.kind}: {row.cpu_us:.1f} us")
    return rows


def main(
    rounds: Annotated[int, typer.Option(help="How often each kind is measured.")] = 5,
    number: Annotated[int, typer.Option(help="Messages of each measurement.")] = NUMBER,
) -> None:
    """Measure what it costs to build the messages of tests.

    Example: python -m tests.programs.bench.building --rounds 5
    """
    table = Table("message", "CPU, us")
    for row in measure(rounds=rounds, number=number, say=lambda _: None):
        table.add_row(row.kind, f"{row.cpu_us:.1f}")
    Console(width=110).print(table)


if __name__ == "__main__":
    program.run(main)
