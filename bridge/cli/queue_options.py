"""Options that `bridge dead` and `bridge quarantine` have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bridge.cli.times import parse_age
from bridge.operations.queue_messages import MIN_RATE

Ids = Annotated[list[str] | None, typer.Argument(metavar="ID", help="Ids, as `list` shows them.")]
Older = Annotated[
    float | None,
    typer.Option("--older-than", parser=parse_age, metavar="AGE", help="Older than this: 90s, 5m, 2h, 7d."),
]
Younger = Annotated[
    float | None, typer.Option("--younger-than", parser=parse_age, metavar="AGE", help="Younger than this.")
]
Everything = Annotated[bool, typer.Option("--all", help="All of them.")]
CountOnly = Annotated[bool, typer.Option("--dry-run", help="Only count what would be done.")]
Limit = Annotated[
    int | None,
    typer.Option(
        "--limit", min=1, help="How many at the most; without, 100 on a terminal, else all in reach."
    ),
]
After = Annotated[
    str | None,
    typer.Option("--after", metavar="ID", help="Continue after this message: `next` of the previous page."),
]
Rate = Annotated[float, typer.Option("--rate", min=MIN_RATE, help="The maximum number a second.")]
To = Annotated[
    Path | None,
    typer.Option(
        "--to", dir_okay=False, help="The file they are written to; without it, a new one in this folder."
    ),
]
KeptFile = Annotated[
    Path,
    typer.Argument(metavar="FILE", dir_okay=False, help="As `discard` has written it."),
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
