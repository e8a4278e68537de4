"""The section about the console: whether `bridge api` serves it, and its sessions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from bridge.settings.section import Section
from bridge.settings.values import blank_is_none, not_blank

MIN_SESSION_KEY_LENGTH: Final = 32
"""Minimum length of the key of sessions, in characters: who can guess it signs in as anybody."""


def _session_key(secret: SecretStr | None) -> SecretStr | None:
    if secret is not None and len(secret.get_secret_value()) < MIN_SESSION_KEY_LENGTH:
        raise ValueError(
            f"a key of sessions is {MIN_SESSION_KEY_LENGTH} or more characters, as `openssl rand -hex 32` makes them"
        )
    return secret


class Console(Section):
    """`[console]`: whether the API serves the console, how long a session lasts (hours), and where undo files lie."""

    enabled: bool = True
    session_key: Annotated[SecretStr | None, BeforeValidator(blank_is_none), AfterValidator(_session_key)] = (
        None
    )
    session_hours: float = Field(default=12.0, gt=0, le=720, allow_inf_nan=False)
    directory: Annotated[Path, BeforeValidator(not_blank)] = Path("console")
