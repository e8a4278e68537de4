"""The faults of the simulator, and how many calls each affects."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Final, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

UNTIL_SWITCHED_OFF: Final = -1
"""Count of a fault that does not count down."""

Count = Annotated[int, Field(ge=UNTIL_SWITCHED_OFF)]
CountedFault = Literal["unauthorized", "reset", "slow", "throttle", "fail", "garbage"]


class InvalidFaultsError(ValueError):
    """A fault has an invalid value. The message names it."""


@dataclass(slots=True)
class Faults:
    """For each fault, how many calls it still affects: 0 is off, -1 is until it is switched off."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    unauthorized: Count = 0
    """401, although the token is right."""
    reset: Count = 0
    """The connection is reset without an answer."""
    slow: Count = 0
    """The answer comes after `slow_seconds`."""
    slow_seconds: Annotated[float, Field(ge=0, le=3600)] = 30.0
    throttle: Count = 0
    """429 with `retry_after` as its `Retry-After`."""
    retry_after: Annotated[str, Field(pattern=r"^[ -~]*$")] = "1"
    """Seconds or an HTTP date; if empty, the header is left out."""
    fail: Count = 0
    """500."""
    garbage: Count = 0
    """200 with a body that is not JSON."""
    unknown_lookups: Count = 0
    """404 for the first lookups of each message, as when the provider's API lags behind its webhook."""
    unknown_until: float = 0.0
    """404 for every lookup before this time, Unix seconds."""
    repeat_events: Annotated[int, Field(ge=1, le=100)] = 1
    """How often every event is posted."""

    _lookups: dict[str, int] = field(default_factory=dict, init=False, repr=False, compare=False)

    def takes(self, fault: CountedFault) -> bool:
        """Whether this fault affects the current call; counts it."""
        left: int = getattr(self, fault)
        if left > 0:
            setattr(self, fault, left - 1)
        return left != 0

    def hides(self, message_id: str) -> bool:
        """Whether a lookup of this message is answered 404, although it exists; counts it."""
        if time.time() < self.unknown_until:
            return True
        if self.unknown_lookups == 0:
            return False
        seen = self._lookups.get(message_id, 0)
        self._lookups[message_id] = seen + 1
        return self.unknown_lookups == UNTIL_SWITCHED_OFF or seen < self.unknown_lookups


def read_faults(document: bytes) -> Faults:
    """Read the faults from a JSON object, which may leave out those that are off.

    Raises:
        InvalidFaultsError: it is not such an object.
    """
    try:
        return TypeAdapter(Faults).validate_json(document)
    except ValidationError as invalid:
        error = invalid.errors(include_url=False, include_input=False)[0]
        key = ".".join(str(part) for part in error["loc"]) or "the body"
        raise InvalidFaultsError(f"{key}: {error['msg']}") from None


def faults_json(faults: Faults) -> bytes:
    """The faults as a JSON object."""
    return TypeAdapter(Faults).dump_json(faults)
