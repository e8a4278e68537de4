"""What the receiver's log says while RabbitMQ does not confirm."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import pytest
from structlog.testing import capture_logs

from bridge.broker.management import ManagementError
from bridge.broker.management_views import BindingView, QueueView
from bridge.receiver import confirm_causes
from bridge.receiver.confirm_causes import ConfirmCauses
from bridge.spool.unconfirmed import Unconfirmed
from bridge.tasks import background_task

if TYPE_CHECKING:
    from bridge.broker.management import ManagementApi


class Api:
    """RabbitMQ's: the archive is well at so many looks, and then it is not. Without a number it does not answer."""

    def __init__(self, looks_well: int | None) -> None:
        self._looks_well = looks_well

    async def bindings_from(self, _: str) -> list[BindingView]:
        if self._looks_well is None:
            raise ManagementError("it does not answer")
        return [BindingView("archive", "#", to_queue=True)]

    async def queue(self, name: str) -> QueueView:
        assert self._looks_well is not None
        self._looks_well -= 1
        online = int(self._looks_well >= 0)
        return QueueView(name, "stream", {}, {}, 0, 0, 0, None, members=1, online=online)


async def said(monkeypatch: pytest.MonkeyPatch, api: Api) -> dict[str, Any]:
    """The first line after a probe of `opened` was lost; `clicked` was lost once, as with any connection."""
    monkeypatch.setattr(confirm_causes, "_STATISTICS_SECONDS", 0)
    unconfirmed = Unconfirmed()
    causes = ConfirmCauses(unconfirmed, cast("ManagementApi", api), exchange="events")
    with capture_logs() as lines:
        async with background_task(causes.run(), name="causes"), asyncio.timeout(10):
            await asyncio.sleep(0)
            assert lines == []
            unconfirmed.note(confirmed=(), lost=["opened", "clicked"])
            unconfirmed.note(confirmed=(), lost=["opened"])
            while not lines:  # noqa: ASYNC110 -- there is no event to await
                await asyncio.sleep(0)
    [line] = lines
    assert line["names"] == ["opened"]
    return dict(line)


@pytest.mark.parametrize("looks_well", [0, 3])
async def test_the_queue_is_named_that_looks_bad_at_any_of_some_looks(
    monkeypatch: pytest.MonkeyPatch, looks_well: int
) -> None:
    """One whose process crashes at each start is online for moments."""
    line = await said(monkeypatch, Api(looks_well))
    assert (line["action"], line["queue"]) == ("receiver.queue_unconfirmed", "archive")
    assert line["seen"] == "stream 'archive' cannot be written: 0 of its 1 members are online"


@pytest.mark.parametrize(
    ("looks_well", "reason"),
    [(4, "RabbitMQ says of every bound queue that it can be written"), (None, "it does not answer")],
)
async def test_what_cannot_be_seen_is_said(
    monkeypatch: pytest.MonkeyPatch, looks_well: int | None, reason: str
) -> None:
    """That confirms are missing, of which names, and why nothing is known of the cause."""
    line = await said(monkeypatch, Api(looks_well))
    assert (line["action"], line["reason"]) == ("receiver.unconfirmed_cause_unseen", reason)
