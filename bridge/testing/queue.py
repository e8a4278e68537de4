"""A queue with one consumer, without RabbitMQ: it delivers, takes back what is requeued, and notes what becomes of each."""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from bridge.testing import pika_delivery
from bridge.testing.outcome import Outcome, Played
from bridge.testing.settlements import Settlements

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from bridge.testing.message import BridgeMessage
    from bridge.testing.outcome import End
    from bridge.testing.settlements import Verdict

Client = Literal["aio-pika", "pika"]

_ARGUMENTS: Final[dict[int, Client]] = {1: "aio-pika", 4: "pika"}


@dataclass(frozen=True, slots=True)
class Consumer:
    """A consumer under test."""

    handler: Callable[..., object]
    """The callback: `handler(message)` as for aio-pika, async or not; or `handler(channel, method, properties, body)` as for
    pika."""
    effects: Callable[[], Iterable[str]] | None = None
    """Asked at the end: the ids of the events that had an effect, each as often as it had one."""
    state: Callable[[], object] | None = None
    """Asked at the end: what the consumer knows; it must be the same whatever the order (compared by `==`)."""
    close: Callable[[], object] | None = None
    """Called after that; may be async."""
    acknowledges: bool = True
    """Whether the handler acknowledges by itself. If not, a message is acknowledged when it returns, and rejected when it raises."""
    client: Client | None = None
    """Whose callback it is; by default what the number of its arguments says."""

    def client_of_handler(self) -> Client:
        """Whose callback it is.

        Raises:
            TypeError: nothing says so.
        """
        if self.client is not None:
            return self.client
        count = sum(
            one.default is one.empty and one.kind in {one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD}
            for one in inspect.signature(self.handler).parameters.values()
        )
        if count not in _ARGUMENTS:
            raise TypeError(
                f"{self.handler!r} takes {count} arguments; aio-pika's callbacks take 1 and pika's 4: "
                "say Consumer(..., client='pika') or client='aio-pika'"
            )
        return _ARGUMENTS[count]


class Delivery(NamedTuple):
    """A message that is to be delivered."""

    message: BridgeMessage
    redelivered: bool = False


class Rules(NamedTuple):
    """How the queue delivers."""

    prefetch: int = 1
    """How many deliveries may be unacknowledged at once."""
    patience: float = 2.0
    """Seconds until a delivery counts as left unacknowledged."""
    delivery_limit: int = 20
    """How often a message is taken back; then it loops for ever."""


async def play(consumer: Consumer, deliveries: Sequence[Delivery], rules: Rules) -> Played:
    """Deliver the messages to a consumer that is fresh, in this order."""
    queue = _Queue(consumer, deliveries, rules)
    try:
        await queue.run()
        effects = None if consumer.effects is None else tuple(consumer.effects())
        state = None if consumer.state is None else consumer.state()
    finally:
        if consumer.close is not None and inspect.isawaitable(closing := consumer.close()):
            await closing
    return Played(queue.outcomes, effects, state, queue.problems)


@dataclass(slots=True, eq=False)
class _Item:
    message: BridgeMessage
    redelivered: bool
    returns: int = 0
    """How often it was taken back."""
    end: End | None = None
    error: BaseException | None = None


class _Queue:
    def __init__(self, consumer: Consumer, deliveries: Sequence[Delivery], rules: Rules) -> None:
        self._consumer = consumer
        self._client = consumer.client_of_handler()
        self._rules = rules
        self._ready = deque(_Item(one.message, one.redelivered) for one in deliveries)
        self._delivered: list[_Item] = []
        self._in_flight: set[_Item] = set()
        """Those that may still be settled. One whose handler has raised is not: nobody looks at it again."""
        self._problems: list[str] = []
        self._settlements = Settlements()
        self._channel = pika_delivery.Channel(self._settlements, asyncio.get_running_loop())
        self._handlers: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()

    @property
    def outcomes(self) -> list[Outcome]:
        return [
            Outcome(one.message, one.end or "left unacknowledged", one.redelivered, one.error)
            for one in self._delivered
        ]

    @property
    def problems(self) -> list[str]:
        left = (
            [f"{len(self._ready)} messages were not delivered: the prefetch is used up"]
            if self._ready
            else []
        )
        return [*self._problems, *self._settlements.problems, *left]

    async def run(self) -> None:
        """Deliver until all is settled, or until nothing is settled any more for `patience`."""
        while self._deliver() or self._handlers or self._in_flight:
            self._changed.clear()
            try:
                async with asyncio.timeout(self._rules.patience):
                    await self._changed.wait()
            except TimeoutError:
                break
        for handler in self._handlers:
            handler.cancel()
        await asyncio.gather(*self._handlers, return_exceptions=True)

    def _deliver(self) -> bool:
        """Deliver as many as the prefetch allows; whether there were any."""
        before = len(self._delivered)
        while self._ready and len(self._in_flight) < self._rules.prefetch:
            self._delivered.append(item := self._ready.popleft())
            self._in_flight.add(item)
            tag = len(self._delivered)
            self._settlements.delivered(tag, partial(self._settled, item))
            handling = asyncio.create_task(self._handle(item, tag), name=f"delivery {tag}")
            self._handlers.add(handling)
            handling.add_done_callback(self._handled)
        return len(self._delivered) > before

    def _handled(self, handling: asyncio.Task[None]) -> None:
        self._handlers.discard(handling)
        self._changed.set()

    async def _handle(self, item: _Item, tag: int) -> None:
        try:
            result = self._consumer.handler(*self._arguments(item, tag))
            if inspect.isawaitable(result):
                await result
        except Exception as error:  # noqa: BLE001 -- whatever a consumer raises is what it did
            item.error = error
            self._in_flight.discard(item)
            self._note_error(item, error)
            if not self._consumer.acknowledges:
                self._settlements.settle(tag, "rejected")
        else:
            if not self._consumer.acknowledges:
                self._settlements.settle(tag, "acknowledged")

    def _note_error(self, item: _Item, error: Exception) -> None:
        if self._client == "pika" and self._consumer.acknowledges:
            self._problems.append(f"the handler raised {error!r} on {item.message!r}: pika ends the consumer")

    def _arguments(self, item: _Item, tag: int) -> tuple[Any, ...]:
        about: dict[str, Any] = {"redelivered": item.redelivered, "tag": tag, "returns": item.returns}
        if self._client == "pika":
            return pika_delivery.incoming(item.message, channel=self._channel, **about)
        from bridge.testing import aio_pika_delivery  # noqa: PLC0415 -- pytest's plugin imports this module, and need not load it

        return (aio_pika_delivery.incoming(item.message, settlements=self._settlements, **about),)

    def _settled(self, item: _Item, verdict: Verdict) -> None:
        item.end = verdict
        self._in_flight.discard(item)
        if verdict == "requeued":
            if item.returns < self._rules.delivery_limit:
                # RabbitMQ puts it back where it was: at the head.
                self._ready.appendleft(_Item(item.message, redelivered=True, returns=item.returns + 1))
            else:
                self._problems.append(
                    f"{item.message!r} was requeued {item.returns + 1} times: it loops for ever"
                )
        self._changed.set()
