"""`bridge webhook`: which URL the provider posts its events to."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from bridge.cli.console import BAD_USAGE, fail, fails_with, people, print_json, settings_of
from bridge.provider.client import ProviderClient, connect
from bridge.provider.errors import ProviderError
from bridge.telemetry.metrics import Metrics
from bridge.telemetry.terminal import one_line

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")

_VARIABLES = (
    "Environment: BRIDGE_PROVIDER__API_TOKEN (required), BRIDGE_PROVIDER__BASE_URL and "
    "BRIDGE_PROVIDER__RESERVE_URL."
)

app = typer.Typer(
    name="webhook",
    help="Which URL the provider posts its events to: show it, set it, turn it off.",
    epilog=_VARIABLES,
    no_args_is_help=True,
    rich_markup_mode="rich",
)

AsJson = Annotated[bool, typer.Option("--json", help="One JSON document, for programs.")]


def _web_address(url: str | None) -> str | None:
    if url is not None and not url.startswith(("http://", "https://")):
        fail("a webhook's URL starts with http:// or https://", BAD_USAGE)
    return url


@app.command(epilog=f"Example: bridge webhook show --json\n\n{_VARIABLES}")
@fails_with(ProviderError)
def show(context: typer.Context, as_json: AsJson = False) -> None:
    """Show the URL that is set. JSON: {"url": text or null}."""
    url = _ask(context, ProviderClient.webhook)
    if as_json:
        print_json({"url": url})
    else:
        _say(url or "no webhook is set; set one with: bridge webhook enable URL")


@app.command(
    epilog=f"Example: bridge webhook enable https://bridge.example.org/webhooks/msndr/TOKEN\n\n{_VARIABLES}"
)
@fails_with(ProviderError)
def enable(
    context: typer.Context,
    url: Annotated[str, typer.Argument(callback=_web_address, help="Where the receiver is reached.")],
    as_json: AsJson = False,
) -> None:
    """Have the provider post its events to URL. JSON: {"url": text}, as the provider has set it."""
    confirmed = _ask(context, lambda client: client.enable_webhook(url))
    if as_json:
        print_json({"url": confirmed})
    else:
        _say(f"on: {confirmed}")


@app.command(epilog=f"Example: bridge webhook disable\n\n{_VARIABLES}")
@fails_with(ProviderError)
def disable(
    context: typer.Context,
    url: Annotated[
        str | None, typer.Argument(callback=_web_address, help="Without it, the one that is set.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Have the provider post nothing more. JSON: {"disabled": text, or null if no webhook was set}."""
    disabled = _ask(context, lambda client: _disable(client, url))
    if as_json:
        print_json({"disabled": disabled})
    else:
        _say(f"off: {disabled}" if disabled else "no webhook is set; there is nothing to turn off")


async def _disable(client: ProviderClient, url: str | None) -> str | None:
    target = url or await client.webhook()
    if target:
        await client.disable_webhook(target)
    return target


def _ask(context: typer.Context, question: Callable[[ProviderClient], Awaitable[T]]) -> T:
    settings = settings_of(context)

    async def asked() -> T:
        async with connect(settings.provider, Metrics()) as client:
            return await question(client)

    return asyncio.run(asked())


def _say(line: str) -> None:
    people.print(one_line(line))
