"""`make capacity`: what a load of your own takes, by the model of docs/capacity.md."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from tests.programs.capacity import tables
from tests.programs.capacity.figures import Limits
from tests.programs.capacity.model import Load


def main(
    *,
    events: Annotated[float, typer.Option(min=1, help="Events a day.")] = 10e6,
    peak: Annotated[float, typer.Option(min=1, help="The busiest minute, to the mean.")] = 5.0,
    suppressing: Annotated[float, typer.Option(min=0, max=1, help="Share that changes the list.")] = 0.017,
    announced: Annotated[float, typer.Option(min=0, max=1, help="Share of announced messages.")] = 0.0,
    copies: Annotated[float, typer.Option(min=0, help="Queues of other services that get an event.")] = 1.0,
    lookups: Annotated[float, typer.Option(min=0, help="`provider.rate`.")] = 10.0,
    queue_rate: Annotated[
        float, typer.Option(min=1, help="Events a second that one queue takes.")
    ] = 20_000.0,
    outage: Annotated[float, typer.Option(min=0, help="Seconds that RabbitMQ may be away.")] = 3600.0,
    simulate: Annotated[
        bool,
        typer.Option("--simulate", help="Run the simulation, and write its tables for the page instead."),
    ] = False,
) -> None:
    """Print what this load takes.

    Example: python -m tests.programs.capacity --events 50000000 --peak 8
    """
    if simulate:
        tables.SIMULATED.write_text(tables.simulation_tables())
        return
    load = Load(
        events, peak=peak, suppressing=suppressing, announced=announced, copies=copies, outage_seconds=outage
    )
    limits = Limits(queue_rate=queue_rate, lookups=lookups)
    sys.stdout.write(f"{tables.examples(loads=(load,), limits=limits)}\n")


if __name__ == "__main__":
    typer.run(main)
