"""The archive is searched: which events there are, how many of each name and day, and one of them whole."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from bridge import events
from bridge.broker import archive as archive_of_broker
from bridge.broker.archive_selection import ArchiveSelection
from bridge.operations import archive_search
from bridge.operations.archive_scan import ArchiveProgress
from bridge.operations.archive_search import ArchiveFindings, event_at, search
from bridge.operations.replay import ReplayError
from bridge.settings.loading import load_settings
from tests.support.archiving import archive, many
from tests.support.proxy import Proxy
from tests.support.working import body_of, changed

if TYPE_CHECKING:
    from typing import Any

    from bridge.settings.sections import Settings
    from tests.support.rabbit import Rabbit

AT = 1_750_000_000_000
"""2025-06-15T15:06:40Z, in milliseconds."""
DAY = 86_400_000
MIXED = [
    (body_of("clicked", 1), AT),
    (body_of("complained", 2), AT + 1),
    (body_of("opened", 1), AT + DAY),
    (b'{"message": 1}', AT + DAY),
    (body_of("clicked", 3), AT + 2 * DAY),
]


@pytest.fixture(autouse=True)
def _quick_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of a stream is where nothing comes any more; on a node of this machine that is known sooner."""
    monkeypatch.setattr(archive_of_broker, "_LAST_CHUNK_SECONDS", 1.0)


async def found(
    settings: Settings, selection: ArchiveSelection, *, limit: int = 100, from_offset: int | None = None
) -> ArchiveFindings:
    findings = ArchiveFindings(limit)
    await search(settings, selection, findings, ArchiveProgress(), lambda: None, from_offset=from_offset)
    return findings


async def test_events_are_counted_by_name_and_day_and_listed_in_their_order(
    rabbit: Rabbit, settings: Settings
) -> None:
    """All of them, or those of some names, of a message, of a day."""
    await archive(rabbit, settings, MIXED)
    everything = await found(settings, ArchiveSelection())
    assert everything.by_name == {"clicked": 2, "complained": 1, "opened": 1, "malformed": 1}
    assert everything.by_day == {"2025-06-15": 2, "2025-06-16": 2, "2025-06-17": 1}
    assert [(one.offset, one.event, one.message_id, one.received_at) for one in everything.first] == [
        (0, "clicked", "1", AT),
        (1, "complained", "2", AT + 1),
        (2, "opened", "1", AT + DAY),
        (3, "malformed", None, AT + DAY),
        (4, "clicked", "3", AT + 2 * DAY),
    ]
    of_one = await found(settings, ArchiveSelection.of((), ["1"], since=None, until=None))
    assert [one.event for one in of_one.first] == ["clicked", "opened"]
    day = datetime(2025, 6, 16, tzinfo=UTC), datetime(2025, 6, 17, tzinfo=UTC)
    of_a_day = await found(settings, ArchiveSelection.of((), (), since=day[0], until=day[1]))
    assert of_a_day.by_day == {"2025-06-16": 2}
    assert (await found(settings, ArchiveSelection.of(["complined"], (), since=None, until=None))).total == 1


async def test_a_list_is_limited_and_goes_on_from_an_offset_and_all_is_counted(
    rabbit: Rabbit, settings: Settings
) -> None:
    """So is the number of names and days that are counted apart: others count together."""
    await archive(rabbit, settings, many("opened", 1200, AT))
    findings = await found(settings, ArchiveSelection(), limit=7)
    assert ([one.offset for one in findings.first], findings.total) == ([*range(7)], 1200)
    following = await found(settings, ArchiveSelection(), limit=7, from_offset=7)
    assert ([one.offset for one in following.first], following.total) == ([*range(7, 14)], 1193)


async def test_invented_names_and_clocks_do_not_fill_the_memory(
    rabbit: Rabbit, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond so many, they are counted as others, and no event is left out of the total."""
    monkeypatch.setattr(archive_search, "MOST_NAMES", 2)
    monkeypatch.setattr(archive_search, "MOST_DAYS", 1)
    await archive(rabbit, settings, MIXED)
    findings = await found(settings, ArchiveSelection())
    assert findings.by_name == {"clicked": 2, "complained": 1, archive_search.OTHERS: 2}
    assert (findings.by_day["2025-06-15"], findings.by_day[archive_search.NO_DAY]) == (2, 3)


async def test_one_event_is_read_whole(
    rabbit: Rabbit, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its offset; what is not there is not there."""
    await archive(rabbit, settings, MIXED)
    with monkeypatch.context() as patient:  # on a busy machine RabbitMQ may need longer than 2 s
        patient.setattr(archive_search, "_ANSWER_SECONDS", 20.0)
        event = await event_at(settings, 1)
    assert event is not None
    assert (event.routing_key, event.body) == ("complained", MIXED[1][0])
    assert events.parse(event.body).message_id == "2"
    assert await event_at(settings, 5) is None


async def test_a_search_goes_on_after_a_lost_connection_and_counts_nothing_twice(
    rabbit: Rabbit, settings: Settings, overrides: dict[str, Any], amqp_url: str
) -> None:
    """The connection is reset on the way."""
    await archive(rabbit, settings, many("opened", 3000, AT))
    findings, progress, steps = ArchiveFindings(10), ArchiveProgress(), 0
    async with Proxy.serve(amqp_url) as proxy:
        there = load_settings(overrides=changed(overrides, rabbitmq={"urls": [proxy.url(amqp_url)]}))

        def moved() -> None:
            nonlocal steps
            steps += 1
            if steps == 3:
                proxy.cut()

        await search(there, ArchiveSelection(), findings, progress, moved)
    assert (findings.total, len(findings.first)) == (3000, 10)
    assert progress.reached == AT
    assert proxy.connections > 1


async def test_without_an_archive_it_is_said(rabbit: Rabbit, settings: Settings) -> None:
    """Both ways of reading it."""
    del rabbit
    with pytest.raises(ReplayError, match="there is no archive"):
        await found(settings, ArchiveSelection())
    with pytest.raises(ReplayError, match="there is no archive"):
        await event_at(settings, 0)
