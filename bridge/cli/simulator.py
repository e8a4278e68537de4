"""`bridge simulator`: serves the provider's API, for a stack without the provider."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from bridge.cli.console import settings_of
from bridge.cli.help_epilog import ROLE, page
from bridge.cli.run_role import run_role
from bridge.development.simulator_api import TOKEN, serve_simulator
from bridge.receiver.webhook_url import webhook_url
from bridge.settings.sections import Settings
from bridge.telemetry import logs

app = typer.Typer(add_completion=False)

log = logs.logger("cli")


@app.command(
    epilog=page(
        "simulator --port 8082 --messages 100000",
        "BRIDGE_PROVIDER__API_TOKEN",
        codes=ROLE,
        ends_in_order=True,
    )
)
def simulator(
    context: typer.Context,
    *,
    host: Annotated[str, typer.Option(help="The host to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0: any free one.")] = 8082,
    messages: Annotated[
        int,
        typer.Option(
            min=0, help="How many messages it knows: ids from 1, to recipient1@example.org and so on."
        ),
    ] = 10_000,
    receiver: Annotated[
        str,
        typer.Option(metavar="URL", help="Where it has set its webhook, unless receiver.public_url says it."),
    ] = "",
) -> None:
    """Serve the provider's API until a signal: look-ups of messages, and the webhook.

    A worker asks it where provider.base_url is http://HOST:PORT/v1. It asks for the token of provider.api_token; where
    there is none, for 'simulator-token'. `bridge simulate` posts the events, and so does its page, /control, which also
    switches faults. The webhook that is set at its start is that of
    receiver.public_url (or --receiver) and the first of receiver.tokens, if there are.
    """

    async def serve(settings: Settings, stop: asyncio.Event) -> None:
        secret = settings.provider.api_token
        token = TOKEN if secret is None else secret.get_secret_value()
        async with serve_simulator(host, port, token, messages=messages) as running:
            own = settings.receiver
            if receiver and own.public_url is None:
                own = own.model_copy(update={"public_url": receiver})
            running.webhook_url = webhook_url(own)
            log.info(
                "simulator started",
                action="simulator.started",
                base_url=running.base_url,
                page=running.page_url,
            )
            await stop.wait()
        log.info("simulator stopped", action="simulator.stopped")

    run_role(settings_of(context, warn=False), serve, expected=(OSError,))
