"""Compares what a consumer does with a sequence of messages to what it does with them once each, in their order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bridge.testing.queue import Delivery
from bridge.testing.sequences import Step, shortest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Sequence

    from bridge.testing.message import BridgeMessage
    from bridge.testing.outcome import Outcome, Played


class Comparison:
    """Of one consumer and one list of messages."""

    def __init__(
        self,
        play: Callable[[Sequence[Delivery]], Awaitable[Played]],
        messages: Sequence[BridgeMessage],
        rejected: Collection[BridgeMessage],
    ) -> None:
        """Nothing is played yet.

        Args:
            play: plays deliveries to a fresh consumer.
            messages: in the order in which they happened.
            rejected: those that are to become dead letters.
        """
        self._play = play
        self._messages = messages
        self._rejected = list(rejected)
        self._in_order: dict[tuple[int, ...], Played] = {}

    async def problem(self, steps: Sequence[Step]) -> str | None:
        """What is wrong with what the consumer does with this sequence; None: nothing."""
        played = await self._played(steps)
        if found := self._wrong(played):
            return found
        numbers = tuple(sorted({step.number for step in steps}))
        if numbers not in self._in_order:
            self._in_order[numbers] = await self._played(list(map(Step, numbers)))
        usual = self._in_order[numbers]
        if self._wrong(usual):
            return None  # a part of the messages that makes no sense alone: there is nothing to compare with
        return _difference(played, usual)

    async def report(self, steps: Sequence[Step]) -> str:
        """What is wrong with a sequence that has a problem: its shortest part that has one, and what it is."""

        async def fails(part: Sequence[Step]) -> bool:
            return await self.problem(part) is not None

        part = await shortest(steps, fails)
        problem = await self.problem(part)
        if problem is None:
            return (
                "this sequence fails only sometimes: what the consumer does depends on more than its messages"
            )
        played = await self._played(part)
        shown = [f"  {number}. {outcome}" for number, outcome in enumerate(played.outcomes, 1)]
        return "\n".join([problem, f"after {len(part)} of {len(steps)} deliveries:", *shown])

    async def _played(self, steps: Sequence[Step]) -> Played:
        return await self._play([Delivery(self._messages[step.number], step.redelivered) for step in steps])

    def _wrong(self, played: Played) -> str | None:
        """What is wrong, whatever the order."""
        for outcome in played.outcomes:
            if wrong := self._wrong_end(outcome):
                return wrong
        if played.problems:
            return played.problems[0]
        for event_id, times in played.repeated_effects().items():
            return f"event {event_id} had its effect {times} times"
        return None

    def _wrong_end(self, outcome: Outcome) -> str | None:
        match outcome.end:
            case "left unacknowledged":
                return f"a message was left unacknowledged: {outcome}"
            case "rejected" if outcome.message not in self._rejected:
                return f"a message was rejected, so it would be a dead letter: {outcome}"
            case "acknowledged" if outcome.message in self._rejected:
                return f"a message was acknowledged that should be rejected: {outcome}"
        return None


def _difference(played: Played, usual: Played) -> str | None:
    if played.effects is not None and usual.effects is not None:
        had, has = set(usual.effects), set(played.effects)
        for event_id in sorted(had - has):
            return (
                f"event {event_id} had no effect, though it has one when each message comes once and in order"
            )
        for event_id in sorted(has - had):
            return f"event {event_id} had an effect, though it has none when each message comes once and in order"
    if played.state != usual.state:
        return (
            f"the state at the end is {played.state!r}; "
            f"it is {usual.state!r} when each message comes once and in order"
        )
    return None
