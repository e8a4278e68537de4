"""Options that many commands have."""

from __future__ import annotations

from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="One JSON document, for programs.")]
ListJson = Annotated[
    bool,
    typer.Option(
        "--json", help="For programs, one JSON document: items, total, and next where there are more."
    ),
]
LineJson = Annotated[bool, typer.Option("--json", help="For programs, a JSON document a line.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")]
