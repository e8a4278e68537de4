"""What a consumer did with the messages that were played to it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bridge.testing.message import BridgeMessage

End = Literal["acknowledged", "rejected", "requeued", "left unacknowledged"]
"""`rejected`: without requeue, so that RabbitMQ makes it a dead letter."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One delivery, and what came of it."""

    message: BridgeMessage
    end: End
    redelivered: bool
    """The flag of the delivery."""
    error: BaseException | None = None
    """What the handler raised."""

    def __str__(self) -> str:
        again = ", redelivered" if self.redelivered else ""
        raised = f", the handler raised {self.error!r}" if self.error is not None else ""
        return f"{self.message!r}{again}: {self.end}{raised}"


@dataclass(frozen=True, slots=True)
class Played:
    """All that a consumer did with a sequence of messages."""

    outcomes: Sequence[Outcome]
    """In the order of the deliveries; what was requeued came again."""
    effects: Sequence[str] | None
    """The ids of the events that had an effect, each as often as it had one; None if the consumer does not say."""
    state: object
    """What the consumer knew at the end; None if it does not say."""
    problems: Sequence[str] = ()
    """What no consumer may do, one line each: for example acknowledge a delivery twice."""

    @property
    def acknowledged(self) -> list[BridgeMessage]:
        return self._with("acknowledged")

    @property
    def rejected(self) -> list[BridgeMessage]:
        """Without requeue: dead letters."""
        return self._with("rejected")

    @property
    def requeued(self) -> list[BridgeMessage]:
        return self._with("requeued")

    @property
    def unacknowledged(self) -> list[BridgeMessage]:
        return self._with("left unacknowledged")

    def repeated_effects(self) -> dict[str, int]:
        """Event id -> how often it had an effect, of those that had more than one."""
        return {one: times for one, times in Counter(self.effects or ()).items() if times > 1}

    def _with(self, end: End) -> list[BridgeMessage]:
        return [one.message for one in self.outcomes if one.end == end]
