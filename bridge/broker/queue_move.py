"""Gives a queue other arguments: its messages wait in another queue while it is deleted and declared again.

1. `hold`: the queue `NAME.moving` is bound as the queue is, the queue is unbound, and its messages are moved there.
2. `replace`: once the queue is empty and no consumer holds any of its messages, it is deleted and declared anew.
3. `release`: the queue is bound again, `NAME.moving` is unbound, the messages are moved back, and it is deleted.

Each step looks at what stands, and can be repeated: a move that was killed goes on from the beginning. Until the end
`NAME.moving` has all bindings, so nothing is lost that comes by an exchange.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from bridge.amqp import exclusive_lock
from bridge.amqp.errors import TopologyRefusedError
from bridge.broker import declaring, topology_steps
from bridge.broker.declare_errors import TopologyMismatchError
from bridge.broker.queue_counts import queue_counts, queue_exists
from bridge.broker.queue_drain import QueueDrain
from bridge.broker.topology import Topology, moving, moving_back

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aio_pika.abc import AbstractConnection

    from bridge.broker.forwarding import Forwarder
    from bridge.broker.management import ManagementApi
    from bridge.broker.management_views import BindingView, QueueView
    from bridge.broker.topology import Binding, Queue

_POLL_SECONDS: Final = 0.5
_BINDINGS_SECONDS: Final = 1.0
"""How often the queue's bindings are looked at: the roles make them again every 30 s."""
_ROUTED_SECONDS: Final = 1.0
"""After a queue was unbound, what was routed before may still arrive."""
_GAP_SECONDS: Final = 0.5
"""Between deleting and declaring: else RabbitMQ 3.10 tells no consumer that the queue was deleted, and delivers nothing."""
_CANCEL_SECONDS: Final = 2.0
_SAVED_SECONDS: Final = 1.0
"""After declaring a queue, before it gets the only copy of a message: RabbitMQ saves within 0.5 s that there is a quorum queue
(`ra_directory`, auto_save). If it is killed before, the queue is empty when it starts again, whatever it had confirmed."""
_ATTEMPTS: Final = 4

_OF_QUEUE: Final = frozenset(
    {
        "x-queue-type",
        "x-dead-letter-exchange",
        "x-dead-letter-routing-key",
        "x-dead-letter-strategy",
        "x-overflow",
    }
)
"""The planned arguments that `NAME.moving` has, too: a message with an expiration of its own becomes a dead letter as it
would have. It has no limits: nothing is dropped there, nor gets too old."""


class MoveRefusedError(TopologyRefusedError):
    """A queue cannot be moved now. The message says why, and what to do; everything is as it was."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a move waits. All in seconds."""

    settle: float = 12.0
    """After this time RabbitMQ's counts are of later than its beginning: it counts every 5 s, and shows it 5 s later."""
    stuck: float = 60.0
    """How long consumers may hold messages, while nothing else happens."""


class QueueMove:
    """Moves one queue, while others publish to it and consume it. One at a time: it holds a lock.

    Every method raises:
        BrokerUnavailableError, aiormq.exceptions.AMQPError: the connection is lost, or RabbitMQ confirms nothing.
        ManagementError: the management API does not answer.
        TopologyRefusedError: RabbitMQ refuses something; the message says what.
    """

    def __init__(
        self,
        connection: AbstractConnection,
        forwarder: Forwarder,
        management: ManagementApi,
        queue: Queue,
        bindings: Iterable[Binding],
        patience: Patience,
    ) -> None:
        """Make a move that has done nothing yet.

        Args:
            connection: an open connection of `open_connection`.
            forwarder: publishes the messages, on another connection.
            management: the API: AMQP tells neither bindings nor what consumers hold.
            queue: as planned.
            bindings: planned ones; those of this queue count.
            patience: how long to wait.
        """
        self._connection = connection
        self._forwarder = forwarder
        self._management = management
        self._planned = queue
        self._bindings = {(one.exchange, one.key): one for one in bindings if one.queue == queue.name}
        self._patience = patience
        self._drain: QueueDrain | None = None
        self._moved = 0
        self._locked = False
        self.name = queue.name
        self._moving = moving(queue.name)
        self._back = moving_back(queue.name)

    @property
    def moved(self) -> int:
        """How many messages were moved out of the queue, or back."""
        return self._moved + (self._drain.moved if self._drain is not None else 0)

    async def hold(self) -> None:
        """From now on everything for the queue goes to `NAME.moving`, and what it has is moved there."""
        await self._lock()
        arguments = {name: value for name, value in self._planned.arguments.items() if name in _OF_QUEUE}
        if not await queue_exists(self._connection, self._moving):  # else of a move that was interrupted
            arguments["x-queue-type"] = "quorum"
            await topology_steps.declare_queue(self._connection, self._moving, arguments)
            await asyncio.sleep(_SAVED_SECONDS)
        await topology_steps.declare_fanout(self._connection, self._moving)
        await topology_steps.bind(self._connection, self._moving, self._moving, "")
        if await queue_exists(self._connection, self.name):
            await self._unbind(self.name)
            await self._start_drain(self.name, self._moving)
        else:
            await self._bind_all(self._moving, await self._management.bindings_of(self._moving))

    async def wait_until_unused(self) -> None:
        """Wait until the queue is empty, and consumers hold nothing of it.

        Raises:
            MoveRefusedError: consumers hold messages for too long.
        """
        loop, patience = asyncio.get_running_loop(), self._patience
        empty_since: float | None = None
        progress, progress_at, looked_at = (0, 0), loop.time(), 0.0
        while self._drain is not None:
            self._drain.check()
            if loop.time() - looked_at > _BINDINGS_SECONDS:
                await self._unbind(self.name)
                looked_at = loop.time()
            ready, _ = await queue_counts(self._connection, self.name)
            view = await self._management.queue(self.name)
            if (ready, self.moved) != progress:
                progress, progress_at = (ready, self.moved), loop.time()
            # From the first moment on without a ready message only this drain gets any, and what others hold gets less.
            empty_since = None if ready else empty_since or loop.time()
            settled_for = -1.0 if empty_since is None else loop.time() - empty_since - patience.settle
            if settled_for >= 0 and view is not None and _is_unused(view):
                return
            if max(settled_for, loop.time() - progress_at - patience.settle) > patience.stuck:
                raise MoveRefusedError(self._in_use(ready, view))
            await asyncio.sleep(_POLL_SECONDS)

    async def replace(self) -> None:
        """Delete the queue, and declare it as planned. What was published to it meanwhile is kept."""
        for attempt in range(_ATTEMPTS):
            if attempt:  # a role with other settings was faster
                await self._start_drain(self.name, self._moving)
                await self.wait_until_unused()
            await self._unbind(self.name)
            await asyncio.sleep(_ROUTED_SECONDS)
            await self._delete_drained(self.name)
            await asyncio.sleep(_GAP_SECONDS)
            try:
                await declaring.declare(self._connection, Topology((), (self._planned,), ()))
            except TopologyMismatchError:
                continue
            return
        raise MoveRefusedError(
            f"queue '{self.name}' was declared again and again with its former arguments: roles run with other settings; "
            "stop them, or start them with these settings, and run this again"
        )

    async def release(self) -> None:
        """Bind the queue as `NAME.moving` is, and move all messages back; nothing is left of the move then."""
        await self._lock()
        await self._stop_drain()
        if await queue_exists(self._connection, self._moving):
            await topology_steps.declare_fanout(self._connection, self._back)
            await topology_steps.bind(self._connection, self._back, self.name, "")
            await asyncio.sleep(_SAVED_SECONDS)
            await self._unbind(self._moving, to=self.name)
            await self._start_drain(self._moving, self._back)
            await self._wait_until_routed()
            await self._delete_drained(self._moving)
        await self._delete_exchanges()
        await exclusive_lock.release(self._connection, f"{self.name}.lock")
        self._locked = False

    def abandon(self) -> None:
        """Stop at once, and leave everything as it is."""
        if self._drain is not None:
            self._drain.cancel()

    async def _lock(self) -> None:
        """Raises MoveRefusedError: another command has it."""
        if not self._locked and not await exclusive_lock.try_acquire(self._connection, f"{self.name}.lock"):
            raise MoveRefusedError(
                f"queue '{self.name}' is read or moved by another command; try again when that has ended"
            )
        self._locked = True

    async def _wait_until_routed(self) -> None:
        """Until nothing was left for a while of what came before `NAME.moving` was unbound."""
        loop = asyncio.get_running_loop()
        empty_since, moved = loop.time(), -1
        while self._drain is not None and loop.time() - empty_since < _ROUTED_SECONDS:
            self._drain.check()
            ready, _ = await queue_counts(self._connection, self._moving)
            if ready or self.moved != moved:
                empty_since, moved = loop.time(), self.moved
            await asyncio.sleep(_POLL_SECONDS / 5)

    async def _unbind(self, queue: str, *, to: str | None = None) -> None:
        """Remove all bindings of the queue, once the other one has them."""
        found = await self._management.bindings_of(queue)
        await self._bind_all(to or self._moving, found)
        for view in found:
            if view.exchange not in {self._moving, self._back}:
                await topology_steps.unbind(
                    self._connection, view.exchange, queue, view.key, dict(view.arguments)
                )

    async def _bind_all(self, queue: str, found: Iterable[BindingView]) -> None:
        """The planned bindings, and all that were found."""
        wanted: dict[tuple[str, str, str], dict[str, Any]] = {
            (exchange, key, ""): {} for exchange, key in self._bindings
        }
        for view in found:
            if view.exchange not in {self._moving, self._back}:
                wanted[view.exchange, view.key, repr(sorted(view.arguments.items()))] = dict(view.arguments)
        for (exchange, key, _), arguments in wanted.items():
            await topology_steps.bind(self._connection, exchange, queue, key, arguments)

    async def _delete_exchanges(self) -> None:
        for exchange in (self._back, self._moving):
            await topology_steps.delete_exchange(self._connection, exchange)

    async def _delete_drained(self, queue: str) -> None:
        """Delete it while its drain runs, which gets all that has come before."""
        await topology_steps.delete_queue(self._connection, queue)
        if self._drain is not None:
            await self._drain.ended_with_queue(_CANCEL_SECONDS)
            await self._stop_drain()

    async def _start_drain(self, queue: str, exchange: str) -> None:
        await self._stop_drain()
        self._drain = QueueDrain(self._connection, queue, self._forwarder, exchange)
        await self._drain.start()

    async def _stop_drain(self) -> None:
        if self._drain is not None:
            await self._drain.stop()
            self._moved += self._drain.moved
            self._drain = None

    def _in_use(self, ready: int, view: QueueView | None) -> str:
        if ready:
            return (
                f"queue '{self.name}' is not moved: RabbitMQ gives its {ready} messages to another consumer only (a single active "
                "one?), which takes none; stop that consumer, and run this again"
            )
        held = view.unacknowledged if view is not None else None
        return (
            f"queue '{self.name}' is not moved: its consumers hold {'?' if held is None else held} messages for "
            f"{self._patience.stuck:g} s without an acknowledgement; stop them, and run this again"
        )


def _is_unused(view: QueueView) -> bool:
    return view.unacknowledged == 0 and not view.ready and not view.dead_lettering
