"""`bridge webhook`: shows, sets and removes the URL to which the provider posts events."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from bridge.cli.console import BAD_USAGE, fail, fails_with, print_json, settings_of, terminal
from bridge.cli.help_epilog import page
from bridge.cli.options import AsJson, DryRun
from bridge.provider.client import ProviderClient, connect
from bridge.provider.errors import ProviderError
from bridge.receiver.handler import WEBHOOK_PATH
from bridge.receiver.webhook_url import webhook_url
from bridge.telemetry.metrics import Metrics
from bridge.telemetry.terminal import one_line

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from bridge.settings.sections import Receiver, Settings

T = TypeVar("T")

_STANDARD_INPUT = "-"
"""Instead of a URL: read it from standard input."""

_VARIABLES = ("BRIDGE_PROVIDER__API_TOKEN", "BRIDGE_PROVIDER__BASE_URL", "BRIDGE_PROVIDER__RESERVE_URL")
_OUR_URL = ("BRIDGE_RECEIVER__PUBLIC_URL", "BRIDGE_RECEIVER__TOKENS")

app = typer.Typer(
    name="webhook",
    help="The URL to which the provider posts events: show it, set it, turn it off.",
    epilog=page("webhook show", *_VARIABLES),
    no_args_is_help=True,
    rich_markup_mode="rich",
    add_completion=False,
)


def _http_url(url: str | None) -> str | None:
    if url not in {None, _STANDARD_INPUT} and not str(url).startswith(("http://", "https://")):
        fail("a webhook's URL starts with http:// or https://", BAD_USAGE)
    return url


@app.command(epilog=page("webhook show --json", *_VARIABLES))
@fails_with(ProviderError)
def show(context: typer.Context, as_json: AsJson = False) -> None:
    """Show the URL that is set. JSON: {"url": text or null}."""
    seen = _ask(settings_of(context), ProviderClient.read_webhook)
    if as_json:
        print_json({"url": seen.url})
    elif seen.url:
        _say(seen.url)
    else:
        doubt = (
            " (its answer was 404, as that of a wrong provider.base_url would be)" if seen.not_found else ""
        )
        _say(f"no webhook is set{doubt}; set one with: bridge webhook enable")


@app.command(
    epilog=page(
        "webhook enable",
        *_VARIABLES,
        *_OUR_URL,
        codes={2: "there is no URL, or the arguments or the settings are wrong"},
    )
)
@fails_with(ProviderError)
def enable(
    context: typer.Context,
    url: Annotated[
        str | None,
        typer.Argument(
            callback=_http_url,
            help="The receiver's public URL. Without it: receiver.public_url and the first of receiver.tokens. "
            "- reads it from standard input.",
        ),
    ] = None,
    *,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Make the provider post its events to URL. JSON: {"url": text}, as the provider confirms it.

    --dry-run asks the provider which URL is set now. JSON: {"dry_run": true, "url": text, "now": text or null}.

    The token in a URL is a secret, and arguments are seen by everybody on this machine (`ps`): leave URL out, or give
    it on standard input.
    """
    settings = settings_of(context)
    target = _target(settings.receiver, url)
    if dry_run:
        _print_change(target, url, _ask(settings, ProviderClient.webhook), as_json=as_json)
        return
    confirmed = _ask(settings, lambda client: client.enable_webhook(target))
    if as_json:
        print_json({"url": confirmed})
    else:
        _say(f"on: {_shown(confirmed, target, url)}")


def _print_change(target: str, url: str | None, now: str | None, *, as_json: bool) -> None:
    if as_json:
        print_json({"dry_run": True, "url": target, "now": now})
        return
    shown = _shown(target, target, url)
    if now == target:
        _say(f"{shown} is set already")
    else:
        _say(f"would set {shown}; {f'now: {_without_token(now)}' if now else 'none is set now'}")


def _given(url: str | None) -> str | None:
    """The URL, or the one on standard input if it is `-`."""
    if url != _STANDARD_INPUT:
        return url
    line = sys.stdin.readline().strip()
    return _http_url(line) if line not in {"", _STANDARD_INPUT} else None


def _target(receiver: Receiver, url: str | None) -> str:
    given = _given(url) if url == _STANDARD_INPUT else url or webhook_url(receiver)
    if not given:
        fail(
            "no URL: set receiver.public_url and receiver.tokens (BRIDGE_RECEIVER__PUBLIC_URL, "
            "BRIDGE_RECEIVER__TOKENS), or give it on standard input: bridge webhook enable -",
            BAD_USAGE,
        )
    return given


def _shown(url: str, target: str, argument: str | None) -> str:
    """The token is shown only to those who gave it as an argument."""
    return _without_token(url) if argument != target else url


def _without_token(url: str) -> str:
    front, path, token = url.rpartition(WEBHOOK_PATH)
    return f"{front}{path}…" if token else url


@app.command(epilog=page("webhook disable", *_VARIABLES))
@fails_with(ProviderError)
def disable(
    context: typer.Context,
    url: Annotated[
        str | None,
        typer.Argument(
            callback=_http_url, help="Without it, the one that is set. - reads it from standard input."
        ),
    ] = None,
    *,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Make the provider stop posting events. JSON: {"disabled": text, or null if no webhook was set}.

    --dry-run asks the provider which URL is set now. JSON: {"dry_run": true, "disabled": text, or null where nothing would
    change, "now": text or null}.
    """
    target = _given(url)
    if url == _STANDARD_INPUT and not target:
        fail("there is no URL on standard input", BAD_USAGE)
    settings = settings_of(context)
    if dry_run:
        _print_removal(target, _ask(settings, ProviderClient.webhook), as_json=as_json)
        return
    disabled = _ask(settings, lambda client: _disable(client, target))
    if as_json:
        print_json({"disabled": disabled})
    else:
        _say(f"off: {disabled}" if disabled else "no webhook is set; there is nothing to turn off")


def _print_removal(target: str | None, now: str | None, *, as_json: bool) -> None:
    affected = now if target in {None, now} else None
    if as_json:
        print_json({"dry_run": True, "disabled": affected, "now": now})
    elif affected:
        _say(f"would turn off {affected}")
    elif now:
        _say(f"another URL is set, and would stay: {_without_token(now)}")
    else:
        _say("no webhook is set; there is nothing to turn off")


async def _disable(client: ProviderClient, url: str | None) -> str | None:
    target = url or await client.webhook()
    if target:
        await client.disable_webhook(target)
    return target


def _ask(settings: Settings, question: Callable[[ProviderClient], Awaitable[T]]) -> T:
    async def ask() -> T:
        async with connect(settings.provider, Metrics()) as client:
            return await question(client)

    return asyncio.run(ask())


def _say(line: str) -> None:
    terminal.print(one_line(line))
