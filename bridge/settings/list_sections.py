"""The sections about the suppression list."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator
from pydantic_settings import NoDecode

from bridge.events import DELIVERED, SOFT_BOUNCED
from bridge.settings.section import Section
from bridge.settings.values import (
    Age,
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

OptionalAge = Annotated[Age | None, BeforeValidator(blank_is_none)]


class Suppression(Section):
    """`[suppression]`: the database of the list, and which events put an address on it, for how long."""

    database_url: SecretStr = SecretStr("sqlite+aiosqlite:///suppressions.sqlite3")
    events: Annotated[
        tuple[SuppressingEventName, ...], NoDecode, BeforeValidator(split_names), AfterValidator(event_names)
    ] = Field(default=("hard_bounced", "complained"), min_length=1)
    hard_bounce_expiry: OptionalAge = None
    unsubscribe_expiry: OptionalAge = None
    skip_expiry: OptionalAge = None
    soft_bounce_threshold: int = Field(default=3, ge=1, le=1000)
    soft_bounce_window: Age = 604_800
    soft_bounce_expiry: Age = 259_200
    soft_bounce_expiry_factor: float = Field(default=2.0, ge=1, le=1000, allow_inf_nan=False)
    soft_bounce_expiry_max: Age = 2_592_000
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

    @model_validator(mode="after")
    def _longest_is_not_below_the_first(self) -> Self:
        if self.soft_bounce_expiry_max < self.soft_bounce_expiry:
            raise ValueError(
                f"soft_bounce_expiry_max ({self.soft_bounce_expiry_max} s) is below soft_bounce_expiry "
                f"({self.soft_bounce_expiry} s)"
            )
        return self

    @property
    def used_events(self) -> tuple[str, ...]:
        """The names of the events that the worker gets: those of `events`, and deliveries where they end soft bounces."""
        return (*self.events, DELIVERED) if SOFT_BOUNCED in self.events else self.events


class Retention(Section):
    """`[retention]`: after how many days the worker deletes what the list no longer needs; empty: never."""

    handled_events_days: Annotated[Days | None, BeforeValidator(blank_is_none)] = 90.0
    known_messages_days: Annotated[Days | None, BeforeValidator(blank_is_none)] = 90.0
    evidence_days: Annotated[Days | None, BeforeValidator(blank_is_none)] = 400.0
    changes_days: Annotated[Days | None, BeforeValidator(blank_is_none)] = None
