"""Publishes archived events again, from the console: to one queue, or through the exchange to everybody. A job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import web

from bridge.broker.topology import Names
from bridge.console.archive_searches import BACK, Asked
from bridge.console.errors import InvalidFieldError
from bridge.console.forms import note_of
from bridge.console.job_forms import rate_of, text_of, to_job
from bridge.console.jobs import JobOrder, jobs_of
from bridge.console.parts import parts_of
from bridge.console.visitor import visitor_of
from bridge.operations.archive_scan import ArchiveProgress
from bridge.operations.replay import ReplayOrder, is_queue_name, replay
from bridge.settings.api_section import OVERRIDE, WRITE

if TYPE_CHECKING:
    from bridge.console.jobs import Job
    from bridge.roles.api import ConsoleParts
    from bridge.settings.sections import Settings

_EVERYBODY: Final = "everybody"
_MOST_RATE: Final = 100_000.0
_LANE: Final = "archive replay"
"""One at a time: each takes as much of RabbitMQ as it gets."""


def routes(_: ConsoleParts) -> list[web.RouteDef]:
    """Its paths below /console."""
    return [web.post("/archive/replay", start)]


def known_queues(settings: Settings) -> list[str]:
    """Queues that the settings name, to choose from."""
    prefix = settings.rabbitmq.prefix
    subscribers = sorted(f"{prefix}{subscriber.queue}" for subscriber in settings.subscribers)
    return [*subscribers, Names(prefix).suppression]


async def start(request: web.Request) -> web.StreamResponse:
    """Publish what was asked for again."""
    visitor = visitor_of(request)
    visitor.require(WRITE, "a replay")
    form = await request.post()
    note, asked = note_of(form), Asked.of(form)
    queue: str | None = text_of(form, "queue").strip()
    if text_of(form, "to") == _EVERYBODY:
        visitor.require(OVERRIDE, "publishing to everybody again")
        queue = None
    elif not queue or not is_queue_name(queue):
        raise InvalidFieldError(
            "Nothing was published: give the name of the queue that shall have the events."
        )
    rate = rate_of(form, least=0.1, most=_MOST_RATE)
    settings = parts_of(request).settings
    selection, progress = asked.selection(), ArchiveProgress()
    order = ReplayOrder(selection, queue, from_offset=asked.offset(), rate=rate)
    where = "RabbitMQ again, for all queues" if queue is None else f"the queue {queue}"

    async def work(job: Job) -> None:
        finished = False

        def moved() -> None:
            first, last, following = progress.first, progress.last, progress.next
            if first is not None and last is not None and following is not None:
                job.move(following - first, last - first + 1)
            job.outcome = (
                f"{progress.selected.total():,} of {progress.scanned:,} archived events are in {where}."
            )

        try:
            await replay(settings, order, progress, moved)
            finished = True
        finally:
            moved()
            if not finished and progress.next is not None:
                job.outcome += (
                    f" It came to offset {progress.next:,}, and nothing before it is missing. Go on from there: some of "
                    "the last events may come twice, with the same id."
                )
                job.following = (
                    f"{BACK}?{asked.query(from_offset=str(progress.next), queue=queue or '')}#replay"
                )

    title = f"Replay of archived events to {'all queues' if queue is None else queue}"
    job_order = JobOrder(
        "replay_archive", title, WRITE, BACK, note=note, lane=_LANE, once=text_of(form, "once")
    )
    return to_job(request, jobs_of(request).start(job_order, visitor, work))
