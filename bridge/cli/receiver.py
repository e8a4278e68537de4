"""`bridge receiver`: runs the receiver."""

from __future__ import annotations

from typing import Final

import typer

from bridge.cli.console import settings_of
from bridge.cli.help_epilog import ROLE, page
from bridge.cli.run_role import run_role
from bridge.roles import receiver as role
from bridge.roles.lifetime import Lifetime
from bridge.supervisor import supervisor
from bridge.supervisor.child import SupervisorError
from bridge.telemetry.health import PortTakenError

app = typer.Typer(add_completion=False)

_EXPECTED: Final = (PortTakenError, SupervisorError)


@app.command(
    epilog=page(
        "--config bridge.toml receiver",
        "BRIDGE_RECEIVER__TOKENS",
        "BRIDGE_RECEIVER__PORT",
        "BRIDGE_RECEIVER__PROCESSES",
        "BRIDGE_RABBITMQ__URLS",
        codes=ROLE,
        ends_in_order=True,
    )
)
def receiver(context: typer.Context) -> None:
    """Take the provider's webhooks, and publish each event to RabbitMQ before the answer.

    What it has to say are logs; with logs.format = "json" (BRIDGE_LOGS__FORMAT) a JSON document a line.
    """
    settings = settings_of(context, warn=False)
    drain_timeout = settings.receiver.drain_timeout
    if settings.receiver.processes > 1:
        run_role(settings, supervisor.receivers, expected=_EXPECTED, drain_timeout=drain_timeout)
    else:
        run_role(
            settings,
            lambda settings, stop: role.receiver(settings, Lifetime(stop=stop)),
            expected=_EXPECTED,
            drain_timeout=drain_timeout,
        )
