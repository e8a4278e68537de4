"""The page of a job: how far it is, what it has done, and how to stop it."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from aiohttp import web

from bridge.console.errors import NotFoundError
from bridge.console.jobs import JOBS, Jobs, jobs_of, running_jobs
from bridge.console.navigation import entry_of
from bridge.console.notices import redirect
from bridge.console.rendering import render
from bridge.console.visitor import visitor_of

if TYPE_CHECKING:
    from pathlib import Path

    from bridge.console.jobs import Job

_SOON_SECONDS: Final = 0.15
"""What ends so soon is shown as ended at once."""
_STOP_SECONDS: Final = 2.0


def set_up(app: web.Application) -> None:
    """Add the jobs of this process, and their pages."""
    app[JOBS] = Jobs()
    app.cleanup_ctx.append(running_jobs)
    app.add_routes(
        [
            web.get("/jobs/{id}", page),
            web.get("/jobs/{id}/progress", progress),
            web.post("/jobs/{id}/stop", stop),
            web.get("/jobs/{id}/file", file),
        ]
    )


async def page(request: web.Request) -> web.StreamResponse:
    """The page of one job."""
    job = _job(request)
    await jobs_of(request).wait(job, _SOON_SECONDS)
    place = entry_of(job.order.back)
    return render(request, "job.html", job=job, here=place, place=place.title if place else "the page before")


async def progress(request: web.Request) -> web.StreamResponse:
    """The part of it that changes."""
    return render(request, "_job.html", job=_job(request))


async def stop(request: web.Request) -> web.StreamResponse:
    """Stop it; the page shows where."""
    job, visitor = _job(request), visitor_of(request)
    visitor.require(job.order.scope, "stopping this job")
    jobs_of(request).stop(job)
    await jobs_of(request).wait(job, _STOP_SECONDS)
    return redirect(request, f"/jobs/{job.id}")


async def file(request: web.Request) -> web.StreamResponse:
    """The file that the job has written, to be kept elsewhere."""
    path = _job(request).file
    if path is None or not await asyncio.to_thread(path.is_file):
        raise NotFoundError("The job has written no file, or it was deleted.", title="There is no file")
    return attachment(path)


def attachment(path: Path) -> web.FileResponse:
    """A file to be saved, and not shown."""
    return web.FileResponse(
        path,
        status=HTTPStatus.OK,
        headers={
            "Content-Type": "application/x-ndjson",
            "Content-Disposition": f'attachment; filename="{path.name}"',
        },
    )


def _job(request: web.Request) -> Job:
    return jobs_of(request).get(request.match_info["id"])
