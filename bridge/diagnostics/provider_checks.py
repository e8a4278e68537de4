"""The doctor's checks of the provider: API token, webhook, and clock."""

from __future__ import annotations

import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

import aiohttp
from yarl import URL

from bridge.broker import management
from bridge.broker.management import ManagementError
from bridge.diagnostics.finding import failed, ok, skipped, warning
from bridge.provider import client as provider
from bridge.provider.errors import (
    MissingTokenError,
    ProviderError,
    ProviderUnavailableError,
    UnauthorizedError,
)
from bridge.receiver.access import Access
from bridge.receiver.handler import WEBHOOK_PATH
from bridge.receiver.webhook_url import public_base_url
from bridge.settings.sections import PROVIDER_URL
from bridge.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from bridge.diagnostics.finding import Finding
    from bridge.settings.sections import Receiver, Settings

_SKEW_SECONDS: Final = 5.0
"""A greater difference is a wrong clock: a Date header has whole seconds, and the answer takes some time."""
_CALL_SECONDS: Final = 4.0
_TOKEN_ADVICE: Final = "set provider.api_token (BRIDGE_PROVIDER__API_TOKEN)"  # noqa: S105 -- the name of a setting
_ENABLE: Final = "set it: bridge webhook enable, with receiver.public_url and receiver.tokens"


async def token_and_webhook(checks: tuple[str, str], settings: Settings) -> list[Finding]:
    """One call, which needs a valid token, and returns the webhook."""
    token, webhook = checks
    one_attempt = settings.provider.model_copy(
        update={"attempts": 1, "timeout": min(settings.provider.timeout, _CALL_SECONDS / 2)}
    )
    try:
        async with provider.connect(one_attempt, Metrics()) as client:
            seen = await client.read_webhook()
    except MissingTokenError:
        return [
            warning(
                token,
                "none is set: an event without a known address ends in the dead letters",
                _TOKEN_ADVICE,
            ),
            skipped(webhook, "the provider cannot be asked without a token"),
        ]
    except UnauthorizedError:
        return [
            failed(token, "the provider refuses it", _TOKEN_ADVICE),
            skipped(webhook, "the provider refuses the token"),
        ]
    except ProviderUnavailableError as error:
        return [
            failed(token, str(error), "check whether the provider is up and can be reached from here"),
            skipped(webhook, "the provider does not answer"),
        ]
    except ProviderError as error:
        return [
            failed(token, str(error), "check provider.base_url"),
            skipped(webhook, "the provider's answer cannot be read"),
        ]
    if seen.not_found:
        return [
            _not_found(token, settings.provider.base_url),
            failed(webhook, "none is found: see above", _ENABLE),
        ]
    here = _is_here(URL(settings.provider.base_url))
    finding = _check_webhook(webhook, seen.url, settings.receiver, provider_is_here=here)
    return [ok(token, "the provider accepts it"), finding]


def _not_found(check: str, base_url: str) -> Finding:
    """A 404 says nothing about the token: the server may not have checked it."""
    seen = f"GET {base_url}/email/webhook was answered 404: whether the token is accepted is unknown"
    if not URL(base_url).path.strip("/"):
        return failed(check, seen, f"provider.base_url ends in /v1 as in {PROVIDER_URL}: set it")
    return warning(check, seen, "no webhook is set, or provider.base_url is wrong: check it")


async def clock(check: str, settings: Settings) -> Finding:
    """Our clock agrees with the provider's or, if that does not answer, RabbitMQ's."""
    try:
        there, whose = await _providers_clock(settings), "the provider's"
    except (TimeoutError, aiohttp.ClientError, OSError, ValueError):
        try:
            async with management.connect(settings.rabbitmq) as api:
                there, whose = await api.clock(), "RabbitMQ's"
        except ManagementError:
            return skipped(check, "neither the provider nor RabbitMQ's management API tells the time")
    skew = time.time() - there
    if abs(skew) > _SKEW_SECONDS:
        behind = "ahead of" if skew > 0 else "behind"
        return failed(
            check,
            f"this clock is {abs(skew):.0f} s {behind} {whose}",
            "run an NTP client here (timedatectl set-ntp true): ages and delays depend on the clock",
        )
    return ok(check, f"within {_SKEW_SECONDS:g} s of {whose}")


async def _providers_clock(settings: Settings) -> float:
    """The Date header of any answer, also of an error. No token is sent."""
    timeout = aiohttp.ClientTimeout(total=_CALL_SECONDS / 2)
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.head(settings.provider.base_url, allow_redirects=False) as answer,
    ):
        return parsedate_to_datetime(answer.headers.get("Date", "")).timestamp()


def _check_webhook(check: str, text: str | None, receiver: Receiver, *, provider_is_here: bool) -> Finding:
    """The webhook's URL is valid, and is ours. Its token is never shown."""
    if text is None:
        return failed(check, "none is set: the provider sends no events", _ENABLE)
    url = _webhook_url(text)
    if url is None:
        return failed(check, "the URL that is set is not one of a receiver", _ENABLE)
    if not receiver.tokens:
        return warning(
            check, f"{url}; whether its token is right is unknown", "set receiver.tokens here, too"
        )
    if wrong := _not_ours(url, receiver):
        return failed(check, wrong, _ENABLE)
    return _check_way(check, url, receiver, provider_is_here=provider_is_here)


def _check_way(check: str, url: _WebhookUrl, receiver: Receiver, *, provider_is_here: bool) -> Finding:
    """The provider can call this URL, and nobody can listen in."""
    if url.here and provider_is_here:
        return ok(check, f"{url}, which does not leave this machine")
    if url.here:
        return failed(check, f"{url}: there the provider reaches nobody but itself", _ENABLE)
    if not url.secure:
        return warning(check, f"{url} is not https: its token can be read by others", "put TLS in front")
    unsure = "" if receiver.public_url else "; the host is not checked: set receiver.public_url"
    return ok(check, f"{url}{unsure}")


@dataclass(frozen=True, slots=True)
class _WebhookUrl:
    """The parts of a webhook's URL."""

    front: str
    """The part before our path."""
    token: str
    secure: bool
    here: bool
    """It is of the loopback: nobody can listen in, nor call it from elsewhere."""

    def __str__(self) -> str:
        return f"{self.front}{WEBHOOK_PATH}…"


def _webhook_url(text: str) -> _WebhookUrl | None:
    """None unless the text has the form `https://host/webhooks/msndr/TOKEN`."""
    try:
        url = URL(text)
    except ValueError:
        return None
    before, found, token = url.path.partition(WEBHOOK_PATH)
    if url.scheme not in {"http", "https"} or not url.host or not found or not token or "/" in token:
        return None
    return _WebhookUrl(f"{url.origin()}{before}", token, url.scheme == "https", _is_here(url))


def _is_here(url: URL) -> bool:
    try:
        return ip_address(url.host or "").is_loopback
    except ValueError:
        return url.host == "localhost"


def _not_ours(url: _WebhookUrl, receiver: Receiver) -> str:
    """Why a receiver with these settings would not get or accept the events; empty if it would."""
    if not Access(secret.get_secret_value() for secret in receiver.tokens).allows(url.token):
        return f"{url} ends in a token that is not in receiver.tokens: all events are refused"
    if receiver.public_url is not None and url.front != (front := public_base_url(receiver.public_url)):
        return f"{url} is not below receiver.public_url, {front}"
    return ""
