"""The types of the settings' values, and the spellings that are accepted."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from yarl import URL

from bridge import events
from bridge.settings import sources
from bridge.text import collapse

MAX_SECONDS = 366 * 86_400
"""The upper limit of all times: timers overflow at some number."""
MAX_AGE = 100 * 366 * 86_400
"""The upper limit of times after which something ends."""
MAX_TTL_SECONDS = 4_294_967
"""The upper limit of the TTL of a queue: RabbitMQ counts it in milliseconds, in 32 bits."""
MAX_DELIVERIES = 2**31 - 1
"""The upper limit of a delivery limit: as good as none."""
MIN_TOKEN_LENGTH = 16
"""Minimum length of a token, in characters: it is the only proof that a POST comes from the provider."""
MIN_PRIVACY_KEY_LENGTH = 32
"""Minimum length of a privacy key's secret, in characters: who can guess it can test addresses against the hashes."""


def split(value: Any) -> Any:
    """A list in an environment variable or a secret file: JSON, or items separated by commas."""
    if not isinstance(value, str):
        return value
    if not value.lstrip().startswith("["):
        return [item for item in (sources.unquoted(part) for part in value.split(",")) if item]
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        raise ValueError('begins with [ but is not a JSON list, such as ["one", "two"]') from None


def split_urls(value: Any) -> Any:
    """As `split`, for URLs. A comma in a password would cut a URL in two, so that is refused with advice."""
    items = split(value)
    if isinstance(value, str) and any("://" not in item for item in items[1:] if isinstance(item, str)):
        raise ValueError(
            "commas separate the URLs of a list, and the text after one is not a URL; "
            "a comma in a user or password is written as %2C"
        )
    return items


def _broker_url(secret: SecretStr) -> SecretStr:
    url = URL(secret.get_secret_value())
    if url.scheme not in {"amqp", "amqps"} or not url.host:
        raise ValueError("not a URL of the form amqp://user:password@host:5672/vhost (or amqps://)")
    return secret


def _token(secret: SecretStr) -> SecretStr:
    if not re.fullmatch(rf"[A-Za-z0-9._~-]{{{MIN_TOKEN_LENGTH},}}", secret.get_secret_value()):
        raise ValueError(
            f"a token is {MIN_TOKEN_LENGTH} or more letters, digits or . _ ~ - (it is part of a URL)"
        )
    return secret


def _http_url(text: str) -> str:
    url = URL(text)
    if url.scheme not in {"http", "https"} or not url.host or url.user or url.password:
        raise ValueError("not a URL of the form https://host/path (without user and password)")
    return text.rstrip("/")


def not_blank(value: Any) -> Any:
    """An empty folder would be the working directory, and an empty host all addresses, which nobody intends."""
    if isinstance(value, str) and not value.strip():
        raise ValueError("is empty; remove it to use the default")
    return value


def _host(text: str) -> str:
    """An IPv6 address may be in brackets, as in a URL."""
    host = text.strip()
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not host or re.search(r"[\s/@\[\]]", host):
        raise ValueError("not a host name or an address, such as 127.0.0.1 or ::1")
    return host


def lower(value: Any) -> Any:
    """Text in lower case, without surrounding white space; any other value as it is."""
    return value.strip().lower() if isinstance(value, str) else value


def blank_is_none(value: Any) -> Any:
    """An empty variable counts as not set: Compose passes unset variables so."""
    return None if isinstance(value, str) and not value.strip() else value


def _api_token(secret: SecretStr) -> SecretStr:
    token = secret.get_secret_value()
    if not (token.isascii() and token.isprintable() and token and " " not in token):
        raise ValueError("an API token of the provider is printable ASCII without spaces")
    return secret


def _privacy_key(secret: SecretStr) -> SecretStr:
    key_id, colon, key = secret.get_secret_value().partition(":")
    if not colon or not re.fullmatch(r"[A-Za-z0-9._-]{1,32}", key_id):
        raise ValueError("a privacy key is written as ID:SECRET, with letters, digits or . _ - as the id")
    if len(key) < MIN_PRIVACY_KEY_LENGTH or not (key.isascii() and key.isprintable()) or " " in key:
        raise ValueError(
            f"the secret of a privacy key is {MIN_PRIVACY_KEY_LENGTH} or more printable ASCII characters "
            "without spaces, as `openssl rand -hex 32` makes them"
        )
    return secret


def distinct_key_ids(keys: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
    """Each id stands for one secret: a hash names the id only."""
    ids = [key.get_secret_value().partition(":")[0] for key in keys]
    if twice := [one for one in dict.fromkeys(ids) if ids.count(one) > 1]:
        raise ValueError(f"the id '{twice[0]}' is there twice; give a new key a new id")
    return keys


def split_names(value: Any) -> Any:
    """As `split`, with canonical names. The type refuses items that are not text."""
    items = split(value)
    if isinstance(items, list | tuple):
        return [events.canonical_name(item) if isinstance(item, str) else item for item in items]
    return items


def event_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """Canonical names of events, each once, in their order."""
    return tuple(dict.fromkeys(events.canonical_name(name) for name in names))


def not_reserved(name: str) -> str:
    """RabbitMQ refuses to declare names that begin with `amq.`."""
    if name.startswith("amq."):
        raise ValueError("names that begin with 'amq.' are RabbitMQ's own; choose another")
    return name


def complaint_of(invalid: ValidationError) -> str:
    """Pydantic's first complaint as one line, without the value: it may be a secret."""
    error = invalid.errors(include_input=False, include_url=False)[0]
    key = ".".join(str(part) for part in error["loc"])
    message = "there is no such setting" if error["type"] == "extra_forbidden" else error["msg"]
    message = message.removeprefix("Value error, ")
    return collapse(f"{key}: {message}" if key else message)


HttpUrl = Annotated[str, AfterValidator(_http_url)]
ApiToken = Annotated[SecretStr, AfterValidator(_api_token)]
BrokerUrl = Annotated[SecretStr, AfterValidator(_broker_url)]
Token = Annotated[SecretStr, AfterValidator(_token)]
Tokens = Annotated[tuple[Token, ...], BeforeValidator(split)]
PrivacyKey = Annotated[SecretStr, AfterValidator(_privacy_key)]
Days = Annotated[float, Field(gt=0, le=36_500, allow_inf_nan=False)]
Seconds = Annotated[float, Field(gt=0, le=MAX_SECONDS, allow_inf_nan=False)]
Age = Annotated[int, Field(ge=1, le=MAX_AGE)]
"""Seconds that nothing waits for: they are only compared with times."""
Delay = Annotated[float, Field(ge=0.01, le=7 * 86_400, allow_inf_nan=False)]
Host = Annotated[str, BeforeValidator(not_blank), AfterValidator(_host)]
Port = Annotated[int, Field(ge=0, le=65535)]
SuppressingEventName = Literal["hard_bounced", "complained", "unsubscribed", "skipped", "soft_bounced"]

Level = Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(lower)]
