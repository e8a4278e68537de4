"""Moves queues that stand with other arguments to the planned ones, while the roles and other services run."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bridge.amqp.connection import connect_to_any
from bridge.amqp.errors import BrokerUnavailableError, TopologyRefusedError, session_errors_as_loss
from bridge.broker import management
from bridge.broker.forwarding import Forwarder
from bridge.broker.management import ManagementError
from bridge.broker.queue_counts import ready_messages
from bridge.broker.queue_move import QueueMove
from bridge.broker.topology import Names, moving
from bridge.broker.topology_diff import QUEUE, STREAM
from bridge.tasks import task_group

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence

    from aio_pika.abc import AbstractConnection

    from bridge.broker.queue_move import Patience
    from bridge.broker.topology import Queue, Topology
    from bridge.broker.topology_diff import Differing, TopologyDiff
    from bridge.settings.sections import Settings

_TYPE: Final = "x-queue-type"


@dataclass(frozen=True, slots=True)
class Moved:
    """What became of a queue or exchange that differed."""

    name: str
    messages: int
    """How many were moved, out of the queue and back."""
    refused: str = ""
    """Why it stands as before, and what to do; empty: it stands as planned."""


async def migrate(
    settings: Settings,
    planned: Topology,
    diff: TopologyDiff,
    patience: Patience,
    report: Callable[[str], None],
) -> list[Moved]:
    """Move each queue that differs, and finish moves that were interrupted.

    Args:
        settings: where RabbitMQ is.
        planned: what is to stand; what was missing of it has been declared.
        diff: seen by the management API.
        patience: how long to wait for consumers.
        report: called with a line for people at each step.

    Raises:
        BrokerUnavailableError: RabbitMQ or its management API does not answer. Nothing is lost: a second run goes on.
        TopologyRefusedError: the suppression queue is being filled from the archive; nothing was done.
    """
    names = Names(settings.rabbitmq.prefix)
    cannot = [Moved(one.name, 0, reason) for one in diff.differs if (reason := _refusal(one))]
    refused = {one.name for one in cannot}
    changing = [one.name for one in diff.differs if one.name not in refused]
    if not changing and not diff.unfinished:
        return cannot
    held = list(dict.fromkeys(gate for name in changing for gate in (name, *_gates(planned, names, name))))
    queues = [queue for queue in planned.queues if queue.name in {*held, *diff.unfinished}]
    async with _moves(settings, planned, queues, patience) as (connection, moves):
        await _check_backfill(connection, names, changing)
        outcomes = await _move(moves, held, changing, report)
    return cannot + outcomes


async def _move(
    moves: dict[str, QueueMove], held: Collection[str], changing: Sequence[str], report: Callable[[str], None]
) -> list[Moved]:
    """All at once, so that what rests for one rests for all. If one cannot be moved, those after it are not, either."""
    done: list[str] = []
    refusal = ""
    try:
        for name in held:
            report(f"queue '{name}': its messages go to '{moving(name)}'")
            await moves[name].hold()
        report("waiting until consumers hold none of them")
        async with task_group() as tasks:
            for name in held:
                tasks.create_task(moves[name].wait_until_unused(), name=f"wait for {name}")
        for name in changing:
            report(f"queue '{name}': is declared anew")
            await moves[name].replace()
            done.append(name)
    except TopologyRefusedError as error:
        refusal = str(error)
    for move in moves.values():
        try:
            await move.release()
        except TopologyRefusedError as error:  # such as that another command has it, and nothing was done
            refusal = refusal or str(error)
    left = [name for name in changing if name not in done]
    finished = [name for name in moves if name not in held]
    return [Moved(name, moves[name].moved) for name in (*done, *finished)] + [
        Moved(name, moves[name].moved, refusal) for name in left
    ]


@asynccontextmanager
async def _moves(
    settings: Settings, planned: Topology, queues: Iterable[Queue], patience: Patience
) -> AsyncIterator[tuple[AbstractConnection, dict[str, QueueMove]]]:
    """A move of each queue. What they do is on two connections: an alarm that blocks publishers must not block the other."""
    moves: dict[str, QueueMove] = {}
    try:
        async with (
            management.connect(settings.rabbitmq) as api,
            await connect_to_any(settings.rabbitmq, name="bridge: move") as connection,
            await connect_to_any(settings.rabbitmq, name="bridge: move, publishing") as publishing,
            Forwarder.open(publishing) as forwarder,
        ):
            moves.update(
                {
                    queue.name: QueueMove(connection, forwarder, api, queue, planned.bindings, patience)
                    for queue in queues
                }
            )
            with session_errors_as_loss(connection):
                try:
                    yield connection, moves
                finally:
                    for move in moves.values():
                        move.abandon()
    except (BrokerUnavailableError, ManagementError) as error:
        raise BrokerUnavailableError(
            f"the move was interrupted: {error}; nothing is lost, run `bridge topology apply --migrate` again"
        ) from error


def _refusal(differing: Differing) -> str:
    """Why it cannot be moved, and what to do; empty if it can."""
    if differing.kind != QUEUE:
        return (
            f"exchange '{differing.name}' cannot be moved: delete it when nothing is published (queues and their messages "
            "stay), and run `bridge topology apply`"
        )
    if any(one.argument == "temporary" for one in differing.differences):
        return f"queue '{differing.name}' ends with its connection or its last consumer: stop whoever has declared it"
    types = {
        value for one in differing.differences if one.argument == _TYPE for value in (one.stands, one.wanted)
    }
    if STREAM in types or any(one.argument == "x-max-age" for one in differing.differences):
        return _stream(differing.name)
    if any(one.argument == "x-max-length-bytes" for one in differing.differences):
        return _stream(differing.name)
    return ""


def _stream(name: str) -> str:
    return (
        f"queue '{name}' is a stream, which cannot be moved: its messages would get new times and offsets; shorten it by a "
        "policy, or delete it, with the events that it keeps for `replay`, and run `bridge topology apply`"
    )


def _gates(planned: Topology, names: Names, queue: str) -> list[str]:
    """The queues that have to rest meanwhile, because something is published to this one by its name, not by a binding.

    RabbitMQ confirms what is published to a queue at the moment of its deletion, and loses it. The worker publishes
    failures to the dead letters and the delay queues, and stops when it gets no events. RabbitMQ publishes dead letters;
    it waits for a confirm only if that is to be at least once.
    """
    gates = [
        one.name
        for one in planned.queues
        if one.arguments.get("x-dead-letter-routing-key") == queue
        and one.arguments.get("x-dead-letter-strategy") != "at-least-once"
    ]
    retries = {
        one.name
        for one in planned.queues
        if one.arguments.get("x-dead-letter-routing-key") == names.suppression
    }
    if queue in retries | {names.dead}:
        gates.append(names.suppression)
    return gates


async def _check_backfill(connection: AbstractConnection, names: Names, changing: Collection[str]) -> None:
    """The worker fills the suppression queue by its name, and keeps markers in the other queue."""
    if {names.suppression, names.backfill}.isdisjoint(changing):
        return
    if await ready_messages(connection, names.backfill):
        raise TopologyRefusedError(
            f"queue '{names.suppression}' is being filled from the archive; run this again when `bridge doctor` says that it is done"
        )
