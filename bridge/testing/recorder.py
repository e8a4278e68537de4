"""Plays messages to a consumer, with repeats and in other orders, and asserts what the consumer did."""

from __future__ import annotations

import asyncio
import inspect
import secrets
from typing import TYPE_CHECKING, Any, Final, TypeVar

from bridge.testing.comparison import Comparison
from bridge.testing.queue import Consumer, Delivery, Rules, play
from bridge.testing.sequences import Step, sequences

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence

    from bridge.testing.message import BridgeMessage
    from bridge.testing.outcome import Played

    Made = Consumer | Callable[..., object]

Result = TypeVar("Result")

_SEED_BITS: Final = 32


class ConsumerError(AssertionError):
    """The consumer did what it must not. The message has the shortest sequence of messages that shows it."""


class Recorder:
    """Plays messages to consumers, each sequence to a fresh one, as a queue of RabbitMQ would."""

    def __init__(
        self,
        make: Callable[[], Made | Awaitable[Made]],
        *,
        prefetch: int = 1,
        patience: float = 2.0,
        delivery_limit: int = 20,
        seed: int | None = None,
    ) -> None:
        """Nothing is played yet.

        Args:
            make: makes a fresh consumer, with a store of its own: a `Consumer`, or only its handler. It may be async.
            prefetch: how many messages the consumer may have unacknowledged. With more than one, async handlers run
                side by side.
            patience: seconds without progress until a message counts as left unacknowledged.
            delivery_limit: how often a message may be requeued.
            seed: of the orders; by default another one each time. A failure names it.

        Raises:
            TypeError: `make` takes arguments, so it is the handler itself.
        """
        if _takes_arguments(make):
            raise TypeError(
                f"{make!r} takes arguments: a Recorder wants a function without any that makes a fresh consumer, "
                "such as lambda: Consumer(handler)"
            )
        self._make = make
        self._rules = Rules(prefetch, patience, delivery_limit)
        self.seed = secrets.randbits(_SEED_BITS) if seed is None else seed

    def play(self, messages: Sequence[BridgeMessage]) -> Played:
        """Play the messages once each, in this order, to a fresh consumer; asserts nothing."""
        return _run(self.play_async(messages), "play_async")

    async def play_async(self, messages: Sequence[BridgeMessage]) -> Played:
        """`play`, for async tests."""
        return await self._play(list(map(Delivery, messages)))

    def check(
        self,
        messages: Sequence[BridgeMessage],
        *,
        rejected: Collection[BridgeMessage] = (),
        repeats: int = 1,
        reorder: bool = True,
        orders: int = 20,
    ) -> Played:
        """Assert that the consumer does the same whatever the order, and however often a message comes.

        Each message must be acknowledged, after as many requeues as it likes, and those in `rejected` rejected. Each event
        that has an effect in the order given must have it once in every order. The state at the end must be the same.

        Args:
            messages: in the order in which they happened.
            rejected: those of them that are to become dead letters.
            repeats: how often each comes again. Some repeats are flagged as redelivered; others were published twice.
            reorder: whether they come in other orders, too.
            orders: how many sequences are played.

        Returns:
            What the consumer did with the messages once each, in the order given.

        Raises:
            ConsumerError: it did something else. The message has the shortest sequence that shows it, and the seed.
        """
        return _run(
            self.check_async(messages, rejected=rejected, repeats=repeats, reorder=reorder, orders=orders),
            "check_async",
        )

    async def check_async(
        self,
        messages: Sequence[BridgeMessage],
        *,
        rejected: Collection[BridgeMessage] = (),
        repeats: int = 1,
        reorder: bool = True,
        orders: int = 20,
    ) -> Played:
        """`check`, for async tests."""
        comparison = Comparison(self._play, messages, rejected)
        others = sequences(len(messages), repeats=repeats, reorder=reorder, count=orders, seed=self.seed)
        for number, steps in enumerate([list(map(Step, range(len(messages)))), *others]):
            if await comparison.problem(steps) is not None:
                how = f"sequence {number}, seed {self.seed}" if number else "once each, in order"
                raise ConsumerError(
                    f"{await comparison.report(steps)}\n({how}; Recorder(..., seed={self.seed}) repeats it)"
                )
        return await self.play_async(messages)

    async def _play(self, deliveries: Sequence[Delivery]) -> Played:
        made = self._make()
        if inspect.isawaitable(made):
            made = await made
        consumer = made if isinstance(made, Consumer) else Consumer(made)
        return await play(consumer, deliveries, self._rules)


def _run(playing: Coroutine[Any, Any, Result], instead: str) -> Result:
    """Run it in an event loop of its own."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass  # not played here: what the consumer did wrong would be shown as an error in handling this one
    else:
        playing.close()
        raise RuntimeError(f"an event loop is running: await {instead}() instead")
    return asyncio.run(playing)


def _takes_arguments(make: Callable[..., object]) -> bool:
    return any(
        one.default is one.empty and one.kind not in {one.VAR_POSITIONAL, one.VAR_KEYWORD}
        for one in inspect.signature(make).parameters.values()
    )
