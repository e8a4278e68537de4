"""The sections about the suppression list."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import NoDecode

from bridge.settings.section import Section
from bridge.settings.values import SuppressingEventName, event_names, split_names


class Suppression(Section):
    """`[suppression]`: the database of the list, and which events put an address on it."""

    database_url: SecretStr = SecretStr("sqlite+aiosqlite:///suppressions.sqlite3")
    events: Annotated[
        tuple[SuppressingEventName, ...], NoDecode, BeforeValidator(split_names), AfterValidator(event_names)
    ] = Field(default=("hard_bounced", "complained"), min_length=1)
