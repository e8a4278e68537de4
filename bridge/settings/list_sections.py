"""The sections about the suppression list."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator
from pydantic_settings import NoDecode

from bridge.settings.section import Section
from bridge.settings.values import (
    Days,
    PrivacyKey,
    SuppressingEventName,
    blank_is_none,
    distinct_key_ids,
    event_names,
    lower,
    split,
    split_names,
)


class Suppression(Section):
    """`[suppression]`: the database of the list, and which events put an address on it."""

    database_url: SecretStr = SecretStr("sqlite+aiosqlite:///suppressions.sqlite3")
    events: Annotated[
        tuple[SuppressingEventName, ...], NoDecode, BeforeValidator(split_names), AfterValidator(event_names)
    ] = Field(default=("hard_bounced", "complained"), min_length=1)
    privacy: Annotated[Literal["plain", "hmac"], BeforeValidator(lower)] = "plain"
    privacy_keys: Annotated[
        tuple[PrivacyKey, ...], NoDecode, BeforeValidator(split), AfterValidator(distinct_key_ids)
    ] = ()

    @model_validator(mode="after")
    def _has_a_key(self) -> Self:
        if self.privacy == "hmac" and not self.privacy_keys:
            raise ValueError(
                "privacy = hmac needs suppression.privacy_keys: make one with "
                "`echo k1:$(openssl rand -hex 32)`, and keep it as well as the list"
            )
        return self


class Retention(Section):
    """`[retention]`: after how many days the worker deletes what the list no longer needs; empty: never."""

    handled_events_days: Annotated[Days | None, BeforeValidator(blank_is_none)] = 90.0
    known_messages_days: Annotated[Days | None, BeforeValidator(blank_is_none)] = 90.0
    evidence_days: Annotated[Days | None, BeforeValidator(blank_is_none)] = 400.0
    changes_days: Annotated[Days | None, BeforeValidator(blank_is_none)] = None
