"""`bridge worker`: runs the worker, which keeps the suppression list."""

from __future__ import annotations

import typer

from bridge.amqp.errors import TopologyRefusedError
from bridge.cli.console import settings_of
from bridge.cli.help_epilog import ROLE, page
from bridge.cli.run_role import run_role
from bridge.roles import worker as role
from bridge.roles.lifetime import Lifetime
from bridge.suppression.errors import StoreError
from bridge.telemetry.health import PortTakenError

app = typer.Typer(add_completion=False)


@app.command(
    epilog=page(
        "--config bridge.toml worker",
        "BRIDGE_RABBITMQ__URLS",
        "BRIDGE_SUPPRESSION__DATABASE_URL",
        "BRIDGE_PROVIDER__API_TOKEN",
        codes=ROLE,
        ends_in_order=True,
    )
)
def worker(context: typer.Context) -> None:
    """Keep the suppression list from hard bounces and complaints.

    What it has to say are logs; with logs.format = "json" (BRIDGE_LOGS__FORMAT) a JSON document a line.
    """
    settings = settings_of(context, warn=False)
    run_role(
        settings,
        lambda settings, stop: role.worker(settings, Lifetime(stop=stop)),
        expected=(PortTakenError, TopologyRefusedError, StoreError),
        drain_timeout=settings.worker.drain_timeout,
    )
