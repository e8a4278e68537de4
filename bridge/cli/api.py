"""`bridge api`: serves the suppression list over HTTP."""

from __future__ import annotations

import typer

from bridge.cli.console import settings_of
from bridge.cli.help_epilog import ROLE, page
from bridge.cli.run_role import run_role
from bridge.console.application import console_application
from bridge.roles import api as role
from bridge.roles.lifetime import Lifetime
from bridge.suppression.errors import StoreError
from bridge.telemetry.health import PortTakenError

app = typer.Typer(add_completion=False)


@app.command(
    epilog=page(
        "--config bridge.toml api",
        "BRIDGE_API__TOKENS",
        "BRIDGE_API__PORT",
        "BRIDGE_CONSOLE__ENABLED",
        "BRIDGE_SUPPRESSION__DATABASE_URL",
        codes=ROLE,
        ends_in_order=True,
    )
)
def api(context: typer.Context) -> None:
    """Serve the suppression list over HTTP, to senders and other services; and the console, to people, under /console.

    What it has to say are logs; with logs.format = "json" (BRIDGE_LOGS__FORMAT) a JSON document a line.
    """
    settings = settings_of(context, warn=False)
    run_role(
        settings,
        lambda settings, stop: role.api(settings, Lifetime(stop=stop), console=console_application),
        expected=(PortTakenError, StoreError),
        drain_timeout=settings.api.drain_timeout,
    )
