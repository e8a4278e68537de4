"""`make stack-test`: the stack on a real Compose, every service restarted under load, and what was lost."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from bridge.settings.sections import Logs
from bridge.telemetry import logs
from tests.programs import program
from tests.programs.stack import steps, suite, tables
from tests.programs.stack.engine import EngineError

console = Console(width=150)


def main(
    only: Annotated[
        str,
        typer.Option(
            help="Steps whose name contains this, or one of several (`receiver,api`); `none` for none."
        ),
    ] = "",
    promised: Annotated[
        bool,
        typer.Option("--promises/--no-promises", help="Look at what the stack promises, before and after."),
    ] = True,
    rate: Annotated[float, typer.Option(min=1, help="Events a second.")] = suite.RATE,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    write: Annotated[Path | None, typer.Option(help="Write the tables to this file, as Markdown.")] = None,
) -> None:
    """Build and start the stack, look at what it promises, load it, restart and kill every service, compare.

    Each fault must raise its alert in the stack's own Prometheus within two minutes, and the alert must clear.

    Exit code 1: a promise is broken, an alert does not fire or clear, something answered 200 was lost, the list is not what it should be, or something
    was left behind. In the environment: COMPOSE, what `docker compose` is called here, and DOCKER.

    Example: python -m tests.programs.stack --only rabbitmq
    """
    logs.configure(Logs(level="error"))
    words = only.lower().split(",")
    chosen = [step for step in steps.ALL if any(word.strip() in step.name.lower() for word in words)]
    try:
        report = _run(chosen, rate, promised=promised)
    except EngineError as error:
        Console(stderr=True).print(f"stack: {error}", markup=False, soft_wrap=True)
        raise typer.Exit(1) from None
    if as_json:
        json.dump(asdict(report) | {"good": report.good}, sys.stdout, indent=2)
    else:
        for table in tables.of(report):
            console.print(table)
    if write is not None:
        write.write_text(tables.markdown(report))
    style = None if report.good else "bold red"
    Console(stderr=as_json).print(
        f"stack: {tables.summary(report)}", style=style, markup=False, soft_wrap=True
    )
    if not report.good:
        raise typer.Exit(1)


def _run(chosen: list[steps.Step], rate: float, *, promised: bool) -> suite.Report:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True, width=150)) as progress:
        bar = progress.add_task("", total=None)

        def say(line: str, *, good: bool = True) -> None:
            style = None if good else "bold red"
            progress.console.print(line, style=style, highlight=False, markup=False, soft_wrap=True)

        tell = suite.Teller(
            doing=lambda what: progress.update(bar, description=what),
            looked=lambda promise: say(tables.line(promise), good=not promise.broken),
            stepped=lambda row: say(" | ".join(tables.cells(row))),
            last_words=lambda text: say(text, good=False),
        )
        return suite.run(chosen, rate=rate, promised=promised, tell=tell)


if __name__ == "__main__":
    program.run(main, patience=700.0, ends_all=False)
