"""`bridge doctor`: checks the bridge's surroundings, and says what to do."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

import typer
from rich.text import Text

from bridge.cli.columns import wrap
from bridge.cli.console import FAILED, on_terminal, terminal, warn_foreign_variables
from bridge.cli.help_epilog import page
from bridge.cli.lists import print_list
from bridge.cli.options import ListJson
from bridge.diagnostics.doctor import run_checks
from bridge.diagnostics.finding import CheckStatus
from bridge.settings.sections import Logs
from bridge.telemetry import logs
from bridge.telemetry.terminal import one_line

if TYPE_CHECKING:
    from bridge.diagnostics.finding import Finding

app = typer.Typer(add_completion=False)

_NARROWEST: Final = 30
"""Characters for a text: below that, the terminal breaks the lines."""
_STYLES: Final = {
    CheckStatus.OK: "green",
    CheckStatus.WARNING: "yellow",
    CheckStatus.FAILED: "bold red",
    CheckStatus.SKIPPED: "dim",
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
    warn_foreign_variables()
    logs.configure(Logs(level="error"))  # the findings have the errors that libraries would log
    findings = asyncio.run(run_checks(context.obj))
    if as_json:
        print_list(asdict(finding) for finding in findings)
    else:
        _print(findings)
    if any(finding.status is CheckStatus.FAILED for finding in findings):
        raise typer.Exit(FAILED)


def _print(findings: list[Finding]) -> None:
    """Print a line for each finding, and a second one if there is advice."""
    width = max(len(finding.check) for finding in findings)
    for finding in findings:
        seen = _indented(one_line(finding.seen), width + 11)
        status = (f"{finding.status:<7}", _STYLES[finding.status])
        terminal.print(Text.assemble(status, f"  {finding.check:<{width}}  {seen}"))
        if finding.advice:
            advice = _indented(one_line(finding.advice), width + 13)
            terminal.print(Text(f"{'':{width + 11}}→ {advice}", "bold"))


def _indented(text: str, indent: int) -> str:
    """On a terminal a long text goes on below itself; elsewhere it stays one line."""
    if not on_terminal():
        return text
    return ("\n" + " " * indent).join(wrap(text, max(_NARROWEST, terminal.width - indent)))
