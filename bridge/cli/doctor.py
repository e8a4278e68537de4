"""`bridge doctor`: what is wrong with the bridge's surroundings, and what to do."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

import typer
from rich.text import Text

from bridge.cli.console import FAILED, people, tell_of_foreign_variables
from bridge.cli.help_epilog import page
from bridge.cli.lists import print_list
from bridge.cli.options import ListJson
from bridge.diagnostics.doctor import examine
from bridge.diagnostics.finding import Verdict
from bridge.settings.sections import Logs
from bridge.telemetry import logs
from bridge.telemetry.terminal import one_line

if TYPE_CHECKING:
    from bridge.diagnostics.finding import Finding

app = typer.Typer()

_STYLES: Final = {
    Verdict.OK: "green",
    Verdict.WARNING: "yellow",
    Verdict.FAILED: "bold red",
    Verdict.SKIPPED: "dim",
}


@app.command(
    epilog=page(
        "--config /etc/bridge.toml doctor",
        "BRIDGE_RABBITMQ__URLS",
        "BRIDGE_RABBITMQ__MANAGEMENT_URL",
        "BRIDGE_PROVIDER__API_TOKEN",
        "BRIDGE_RECEIVER__TOKENS",
        "BRIDGE_RECEIVER__PUBLIC_URL",
        codes={0: "no check has failed; a warning is for you to judge", 1: "a check has failed"},
    )
)
def doctor(context: typer.Context, as_json: ListJson = False) -> None:
    """Check settings, RabbitMQ, provider, spool and machine; say what to do for each.

    It changes nothing, sends no event and takes none. Every check ends within seconds.
    """
    tell_of_foreign_variables()
    logs.configure(Logs(level="error"))  # the findings say what a library would print
    findings = asyncio.run(examine(context.obj))
    if as_json:
        print_list(asdict(finding) for finding in findings)
    else:
        _print(findings)
    if any(finding.verdict is Verdict.FAILED for finding in findings):
        raise typer.Exit(FAILED)


def _print(findings: list[Finding]) -> None:
    """A line for each, and a second one where there is something to do: both can be searched and copied."""
    width = max(len(finding.check) for finding in findings)
    for finding in findings:
        people.print(
            Text.assemble(
                (f"{finding.verdict:<7}", _STYLES[finding.verdict]),
                f"  {finding.check:<{width}}  {one_line(finding.seen)}",
            )
        )
        if finding.advice:
            people.print(Text(f"{'':{width + 11}}→ {one_line(finding.advice)}", "bold"))
