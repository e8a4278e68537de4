"""Tries another policy on the events of the archive, and says what the list would be instead."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pydantic import ValidationError

from bridge import events
from bridge.amqp.connection import Link
from bridge.broker import topology
from bridge.broker.queue_counts import queue_exists
from bridge.operations.archive_scan import ArchiveProgress, ArchiveScan, wait_connected
from bridge.settings.errors import InvalidSettingsError
from bridge.settings.list_sections import Suppression
from bridge.settings.values import complaint_of
from bridge.suppression.address_keys import keys_of
from bridge.suppression.policy import REASONS, Policy
from bridge.suppression.rehearsal import Difference, PastEvent, Rehearsal
from bridge.tasks import background_task
from bridge.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from aio_pika.abc import AbstractConnection

    from bridge.broker.archive import ArchivedEvent
    from bridge.broker.archive_selection import ArchiveSelection
    from bridge.settings.sections import Settings

NAMES: Final = frozenset({*REASONS, events.DELIVERED})
"""The events that a policy may use."""


class NoArchiveError(Exception):
    """There is no archive. The message says what to do."""


@dataclass(slots=True)
class DryRun:
    """How far a dry run is, and what came of it."""

    progress: ArchiveProgress = field(default_factory=ArchiveProgress)
    used: int = 0
    """How many of the events the policy uses."""
    unknown: int = 0
    """How many of these are left out, as their address is not known."""
    difference: Difference | None = None
    """None until it is finished."""


def changed_section(section: Suppression, values: Mapping[str, str]) -> Suppression:
    """The section `[suppression]` with other values.

    Args:
        section: as it is.
        values: name of a setting, without `suppression.` -> its value, written as in an environment variable.

    Raises:
        InvalidSettingsError: there is no such setting, or the value is not usable.
    """
    if unknown := sorted(values.keys() - set(Suppression.model_fields)):
        raise InvalidSettingsError(f"suppression.{unknown[0]}: there is no such setting")
    try:
        return Suppression.model_validate(dict(section) | dict(values))
    except ValidationError as invalid:
        raise InvalidSettingsError(f"suppression.{complaint_of(invalid)}") from None


async def dry_run(
    settings: Settings,
    section: Suppression,
    selection: ArchiveSelection,
    done: DryRun,
    moved: Callable[[], None],
) -> None:
    """Read the archive up to its present end, and record the events on a list of its own, by the code of the worker.

    Nothing is changed, in RabbitMQ or on the list.

    Args:
        settings: where RabbitMQ and the list are.
        section: the policy that is tried.
        selection: which events.
        done: is kept up to date.
        moved: called after each step.

    Raises:
        NoArchiveError: there is no archive.
        BrokerUnavailableError: RabbitMQ cannot be reached at the start.
        StoreError: the list cannot be read.
    """
    stream = topology.Names(settings.rabbitmq.prefix).archive
    reading = Link(settings.rabbitmq, use="consume", metrics=Metrics())
    url = settings.suppression.database_url.get_secret_value()
    async with Rehearsal.open(url, Policy.of(section), keys=keys_of(settings.suppression)) as rehearsal:

        async def take(found: Sequence[ArchivedEvent]) -> None:
            await rehearsal.record([past for event in found if (past := _past_event(event)) is not None])
            done.used, done.unknown = rehearsal.used, rehearsal.unknown

        scan = ArchiveScan(stream, selection, done.progress, take=take, moved=moved)

        async def session(connection: AbstractConnection) -> None:
            if done.progress.last is None and not await queue_exists(connection, stream):
                raise NoArchiveError(
                    f"there is no archive '{stream}'; see rabbitmq.prefix, or `bridge topology apply`"
                )
            reading.opened()
            await scan.session(connection)

        async with background_task(reading.run(session), name="policy.read") as read:
            await wait_connected(reading, read)
            await read
        done.difference = await rehearsal.difference()


def _past_event(archived: ArchivedEvent) -> PastEvent | None:
    """None for what the worker could not read either: it would be a dead letter."""
    try:
        return PastEvent(events.parse(archived.body), archived.body)
    except (events.NotJsonError, events.MalformedError):
        return None
