"""The section about the HTTP API: where it is served, its tokens with their scopes, and the limits of a request."""

from __future__ import annotations

import re
from typing import Annotated, Final, NamedTuple

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import NoDecode

from bridge.settings.section import Section
from bridge.settings.values import MIN_TOKEN_LENGTH, Host, Port, Seconds, split

CHECK, READ, WRITE, OVERRIDE = "check", "read", "write", "override"
SCOPES: Final = (CHECK, READ, WRITE, OVERRIDE)
"""What a token may do: ask about addresses; read the list; change it; lift complaints and erase."""

_TOKEN: Final = re.compile(
    rf"(?P<name>[A-Za-z0-9._-]{{1,64}}):(?P<scopes>[^:]*):(?P<token>[A-Za-z0-9._~-]{{{MIN_TOKEN_LENGTH},}})"
)


class ApiToken(NamedTuple):
    """One of `api.tokens`."""

    name: str
    """In the change log, in metrics and in logs."""
    scopes: frozenset[str]
    token: str


def read_token(text: str) -> ApiToken:
    """The parts of `name:scope+scope:TOKEN`.

    Raises:
        ValueError: it has another form, or an unknown scope. The message does not repeat the token.
    """
    found = _TOKEN.fullmatch(text)
    if found is None:
        raise ValueError(
            "not of the form name:scope+scope:TOKEN, where the name has at most 64 letters, digits or . _ - and the "
            f"token {MIN_TOKEN_LENGTH} or more letters, digits or . _ ~ -"
        )
    scopes = found["scopes"].split("+")
    for scope in scopes:
        if scope not in SCOPES:
            raise ValueError(
                f"the token '{found['name']}' has the unknown scope '{scope}'; there are {', '.join(SCOPES)}"
            )
    return ApiToken(found["name"], frozenset(scopes), found["token"])


def _readable(secret: SecretStr) -> SecretStr:
    read_token(secret.get_secret_value())
    return secret


ApiTokens = Annotated[tuple[Annotated[SecretStr, AfterValidator(_readable)], ...], BeforeValidator(split)]


class Api(Section):
    """`[api]`: where the HTTP API is served, its tokens, their rate (requests a second), and the limits of a request."""

    host: Host = "127.0.0.1"
    port: Port = 8081
    tokens: Annotated[ApiTokens, NoDecode] = ()
    rate: float = Field(default=1000.0, ge=0.001, le=1_000_000, allow_inf_nan=False)
    max_body_bytes: int = Field(default=4 * 1024**2, ge=64 * 1024, le=64 * 1024**2)
    body_timeout: Seconds = 10.0
    drain_timeout: Seconds = 5.0
