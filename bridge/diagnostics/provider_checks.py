"""The doctor's checks of the provider: its token, the webhook that is set, and the clock."""

from __future__ import annotations

import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
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
from bridge.receiver.handler import PATH
from bridge.receiver.webhook_url import front_of
from bridge.settings.sections import PROVIDER_URL
from bridge.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from bridge.diagnostics.finding import Finding
    from bridge.settings.sections import Receiver, Settings

_SKEW_SECONDS: Final = 5.0
"""A Date header has whole seconds, and the answer takes its way; what is more is a clock that is wrong."""
_CALL_SECONDS: Final = 4.0
_TOKEN_ADVICE: Final = "set provider.api_token (BRIDGE_PROVIDER__API_TOKEN)"  # noqa: S105 -- the name of a setting
_ENABLE: Final = "set it: bridge webhook enable, with receiver.public_url and receiver.tokens"


async def token_and_webhook(checks: tuple[str, str], settings: Settings) -> list[Finding]:
    """One call, which needs a valid token and says which webhook is set."""
    token, webhook = checks
    impatient = settings.provider.model_copy(
        update={"attempts": 1, "timeout": min(settings.provider.timeout, _CALL_SECONDS / 2)}
    )
    try:
        async with provider.connect(impatient, Metrics()) as client:
            seen = await client.look_at_webhook()
    except MissingTokenError:
        return [
            warning(
                token,
                "there is none: an event whose address is not known ends in the dead letters",
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
            failed(token, str(error), "see whether the provider is up and reachable from here"),
            skipped(webhook, "the provider does not answer"),
        ]
    except ProviderError as error:
        return [
            failed(token, str(error), "check provider.base_url"),
            skipped(webhook, "the provider cannot be understood"),
        ]
    if seen.not_found:
        return [
            _not_found(token, settings.provider.base_url),
            failed(webhook, "none is found: see above", _ENABLE),
        ]
    return [ok(token, "the provider accepts it"), _judged(webhook, seen.url, settings.receiver)]


def _not_found(check: str, base_url: str) -> Finding:
    """A 404 is no word about the token: it may come from a server that has never looked at it."""
    seen = f"GET {base_url}/email/webhook was answered 404: whether the token is accepted cannot be told"
    if not URL(base_url).path.strip("/"):
        return failed(check, seen, f"provider.base_url ends in /v1 as in {PROVIDER_URL}: set it")
    return warning(check, seen, "no webhook is set, or provider.base_url is wrong: check it")


async def clock(check: str, settings: Settings) -> Finding:
    """Our clock against the provider's, or where it does not answer, RabbitMQ's."""
    try:
        there, whose = await _providers_clock(settings), "the provider's"
    except (TimeoutError, aiohttp.ClientError, OSError, ValueError):
        try:
            async with management.connect(settings.rabbitmq) as api:
                there, whose = await api.clock(), "RabbitMQ's"
        except ManagementError:
            return skipped(check, "neither the provider nor RabbitMQ's management API says what time it is")
    skew = time.time() - there
    if abs(skew) > _SKEW_SECONDS:
        behind = "ahead of" if skew > 0 else "behind"
        return failed(
            check,
            f"this clock is {abs(skew):.0f} s {behind} {whose}",
            "run an NTP client here (timedatectl set-ntp true): ages and delays are told by it",
        )
    return ok(check, f"within {_SKEW_SECONDS:g} s of {whose}")


async def _providers_clock(settings: Settings) -> float:
    """The Date header of any answer, even of a refusal: no token is sent."""
    timeout = aiohttp.ClientTimeout(total=_CALL_SECONDS / 2)
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.head(settings.provider.base_url, allow_redirects=False) as answer,
    ):
        return parsedate_to_datetime(answer.headers.get("Date", "")).timestamp()


def _judged(check: str, text: str | None, receiver: Receiver) -> Finding:
    """Its shape, and that it is ours; the token in it is never shown."""
    if text is None:
        return failed(check, "none is set: no event comes", _ENABLE)
    address = _address(text)
    if address is None:
        return failed(check, "what is set is not where a receiver takes events", _ENABLE)
    if not receiver.tokens:
        return warning(
            check, f"{address}; which token is right cannot be told", "set receiver.tokens here, too"
        )
    if wrong := _not_ours(address, receiver):
        return failed(check, wrong, _ENABLE)
    if not address.secure:
        return warning(check, f"{address} is not https: its token can be read on the way", "put TLS in front")
    unsure = "" if receiver.public_url else "; set receiver.public_url to have the host compared, too"
    return ok(check, f"{address}{unsure}")


@dataclass(frozen=True, slots=True)
class _Address:
    """A webhook's URL in its parts."""

    front: str
    """What stands in front of our path."""
    token: str
    secure: bool

    def __str__(self) -> str:
        return f"{self.front}{PATH}…"


def _address(text: str) -> _Address | None:
    """None for what has not the shape `https://host/webhooks/msndr/TOKEN`."""
    try:
        url = URL(text)
    except ValueError:
        return None
    before, found, token = url.path.partition(PATH)
    if url.scheme not in {"http", "https"} or not url.host or not found or not token or "/" in token:
        return None
    return _Address(f"{url.origin()}{before}", token, url.scheme == "https")


def _not_ours(address: _Address, receiver: Receiver) -> str:
    """Why a receiver of these settings would not get its events; empty when it would."""
    if not Access(secret.get_secret_value() for secret in receiver.tokens).allows(address.token):
        return f"{address} ends in a token that is none of receiver.tokens: all is refused"
    if receiver.public_url is not None and address.front != (front := front_of(receiver.public_url)):
        return f"{address} is not below receiver.public_url, {front}"
    return ""
