"""`make docs`: writes what is made from code. `make docs-check`: says what is stale, and what points nowhere."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from tests.docs import checks, pages
from tests.docs.tables import ROOT


def main(
    *,
    check: Annotated[bool, typer.Option("--check", help="Change nothing, and say what is wrong.")] = False,
) -> None:
    """Write the tables that are made from code, in docs/reference/ and CONTRIBUTING.md.

    Exit code 1: with --check, something is wrong in a page.
    """
    made = pages.made()
    if not check:
        for path, text in made.items():
            path.write_text(text)
        return
    stale = [
        f"{path.relative_to(ROOT)}: its table is not what the code says: make docs"
        for path, text in made.items()
        if path.read_text() != text
    ]
    problems = stale + checks.problems()
    sys.stderr.write("".join(f"docs: {problem}\n" for problem in problems))
    if problems:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
