"""What is done with dead letters: replayed, discarded into a file, put back from it. Each is a job."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from aiohttp import web

from bridge.broker.topology import Names
from bridge.console.errors import InvalidFieldError, PageError
from bridge.console.forms import note_of
from bridge.console.job_forms import rate_of, text_of, texts_of, to_job
from bridge.console.job_pages import attachment
from bridge.console.jobs import JobOrder, jobs_of
from bridge.console.letter_listings import LISTINGS
from bridge.console.parts import parts_of
from bridge.console.rendering import render
from bridge.console.undo_files import new_path, path_of
from bridge.console.visitor import visitor_of
from bridge.dead_letters.message_file import MessageFile, dead_letter_document
from bridge.operations.queue_messages import MIN_RATE
from bridge.operations.restoring import Restored, restore
from bridge.settings.api_section import OVERRIDE, WRITE

if TYPE_CHECKING:
    from pathlib import Path

    from bridge.console.jobs import Job
    from bridge.dead_letters.dead_letter_description import DeadLetter
    from bridge.roles.api import ConsoleParts

BACK: Final = "/dead-letters"
LANE: Final = "dead letters"
"""Two who read the queue at once could change its order, so there is one job at a time."""
MOST_RATE: Final = 10_000.0
_AGAIN: Final = (
    "The worker tries each once more. One that fails again is a dead letter again when its retries are over, some minutes from now: "
    "look then whether they have come back."
)
_LEFT: Final = "The others are still among the dead letters, in their order."


def routes(_: ConsoleParts) -> list[web.RouteDef]:
    """Its paths below /console."""
    return [
        web.post("/dead-letters/replay", replay),
        web.post("/dead-letters/discard", discard),
        web.get("/dead-letters/files/{name}", download),
        web.post("/dead-letters/files/{name}/restore", put_back),
    ]


@dataclass(frozen=True, slots=True)
class Chosen:
    """The letters of a form, as they were shown."""

    letters: tuple[DeadLetter, ...]
    fields: list[tuple[str, str]]
    """The hidden fields that choose them once more."""

    @property
    def counted(self) -> str:
        return counted(len(self.letters))

    @property
    def events(self) -> list[tuple[str, int]]:
        """Name -> how many."""
        return Counter(letter.event for letter in self.letters).most_common()


def counted(number: int) -> str:
    """1 -> `1 dead letter`."""
    return f"{number:,} dead letter{'' if number == 1 else 's'}"


async def replay(request: web.Request) -> web.StreamResponse:
    """Move the chosen letters back to the worker's queue."""
    visitor_of(request).require(WRITE, "a replay")
    chosen, form = await _chosen(request), await request.post()
    note, rate = note_of(form), rate_of(form, least=MIN_RATE, most=MOST_RATE)
    listings, agreed = request.app[LISTINGS], frozenset(chosen.letters)
    queue = Names(parts_of(request).settings.rabbitmq.prefix).suppression

    async def work(job: Job) -> None:
        job.move(0, len(chosen.letters))
        left = f"{_LEFT} A replay can be repeated: the worker ignores an event that it has handled already."
        try:
            await listings.operations.replay(
                agreed.__contains__, rate=rate, moved=lambda _: job.move(job.done + 1)
            )
            left = f"{_gone(len(chosen.letters) - job.done)} {_AGAIN}"
        finally:
            listings.expire()
            job.outcome = f"{counted(job.done)} went back into the queue {queue}. {left.strip()}"

    order = JobOrder(
        "replay_dead_letters",
        f"Replay of {chosen.counted}",
        WRITE,
        BACK,
        note=note,
        lane=LANE,
        once=text_of(form, "once"),
    )
    return to_job(request, jobs_of(request).start(order, visitor_of(request), work))


async def discard(request: web.Request) -> web.StreamResponse:
    """Ask first; then remove the chosen letters, each after it was written to a file."""
    visitor_of(request).require(OVERRIDE, "discarding")
    chosen, form = await _chosen(request), await request.post()
    note = note_of(form)
    if text_of(form, "confirmed") != "yes":
        return render(request, "letters_discard.html", chosen=chosen, note=note)
    listings, agreed = request.app[LISTINGS], frozenset(chosen.letters)
    path = await _new_path(parts_of(request).settings.console.directory)

    async def work(job: Job) -> None:
        job.move(0, len(chosen.letters))
        left = _LEFT
        kept = MessageFile(path, dead_letter_document)

        def discarded(_: DeadLetter) -> None:
            job.file = kept.path
            job.move(job.done + 1)

        try:
            with kept:
                await listings.operations.discard(agreed.__contains__, file=kept, discarded=discarded)
            left = _gone(len(chosen.letters) - job.done)
        finally:
            listings.expire()
            where = f", and kept in the file {kept.path.name}" if job.file else ""
            was = "was" if job.done == 1 else "were"
            job.outcome = f"{counted(job.done)} {was} removed{where}. {left}".rstrip()

    order = JobOrder(
        "discard_dead_letters",
        f"Discard of {chosen.counted}",
        OVERRIDE,
        BACK,
        note=note,
        lane=LANE,
        once=text_of(form, "once"),
    )
    return to_job(request, jobs_of(request).start(order, visitor_of(request), work))


async def download(request: web.Request) -> web.StreamResponse:
    """A file of discarded letters."""
    return attachment(path_of(parts_of(request).settings.console.directory, request.match_info["name"]))


async def put_back(request: web.Request) -> web.StreamResponse:
    """Put the letters of a file back."""
    visitor_of(request).require(WRITE, "putting letters back")
    form = await request.post()
    note = note_of(form)
    path = path_of(parts_of(request).settings.console.directory, request.match_info["name"])
    listings = request.app[LISTINGS]

    async def work(job: Job) -> None:
        restored = Restored()
        left = "The file is as it was: it can be put back once more, and what is there already is left out."
        try:
            await restore(
                listings.operations, path, restored, lambda: job.move(restored.done, restored.total)
            )
            left = ""
        finally:
            listings.expire()
            there = f" {restored.already_there:,} were there already." if restored.already_there else ""
            job.outcome = f"{counted(restored.published)} came back.{there} {left}".rstrip()

    order = JobOrder(
        "restore_dead_letters",
        f"Putting back of {path.name}",
        WRITE,
        BACK,
        note=note,
        lane=LANE,
        once=text_of(form, "once"),
    )
    return to_job(request, jobs_of(request).start(order, visitor_of(request), work))


async def _chosen(request: web.Request) -> Chosen:
    """The letters that a form names, out of the listing that was shown.

    Raises:
        PageError: the listing is not kept any more.
        InvalidFieldError: it names none.
    """
    form = await request.post()
    listing = request.app[LISTINGS].get(text_of(form, "as_of"))
    fields = [("as_of", listing.id)]
    places = texts_of(form, "letter")
    if text_of(form, "which") == "group":
        if places:
            raise InvalidFieldError(
                f"Nothing was changed: {len(places):,} letters are ticked, and all of the group are chosen. Go back, and choose "
                "one of the two."
            )
        key = text_of(form, "group")
        return Chosen(tuple(listing.group(key).letters), [*fields, ("which", "group"), ("group", key)])
    letters = tuple(listing.at_places(places))
    if not letters:
        raise InvalidFieldError(
            "Nothing was changed: no letter was ticked. Go back, tick some, or choose all of the group."
        )
    return Chosen(letters, [*fields, *(("letter", place) for place in places)])


async def _new_path(folder: Path) -> Path:
    """Where they are kept.

    Raises:
        PageError: not in this folder.
    """
    try:
        return await new_path(folder)
    except OSError as error:
        raise PageError(
            f"Nothing was changed: letters are kept in a file before they are removed, and the folder {folder} cannot be "
            f"made ({error.strerror}). See the setting console.directory.",
            title="There is no place for the file",
            status=HTTPStatus.SERVICE_UNAVAILABLE,
        ) from None


def _gone(number: int) -> str:
    """What is said where fewer were there than had been chosen."""
    if not number:
        return ""
    return f"{number:,} of those that were chosen were not there any more: somebody else has moved them."
