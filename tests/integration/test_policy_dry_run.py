"""`bridge policy dry-run`: what other settings would make of the archive is what they then make of it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from bridge.settings.loading import load_settings
from bridge.suppression.store import Store
from tests.support.archiving import archive
from tests.support.commands import bridge
from tests.support.working import body_of, changed, working

if TYPE_CHECKING:
    from pathlib import Path

    from bridge.settings.sections import Settings
    from tests.support.commands import Outcome
    from tests.support.rabbit import Rabbit
    from tests.support.working import Workplace

NAMES = ["hard_bounced", "complained", "unsubscribed", "skipped", "soft_bounced"]
ALL = "events=" + ",".join(NAMES)
ALWAYS, OFTEN, KNOWN_BY_NOBODY = "always@example.org", "often@example.org", 5000
ADDRESSES = {
    **{str(number): f"recipient{number}@example.org" for number in (1, 2, 3, 8, 11)},
    **{str(number): ALWAYS for number in (4, 5, 6)},
    **{str(number): OFTEN for number in (14, 15, 16, 17)},
}
"""The message 11 is to somebody whom a person has taken off the list."""


def happened(now: int) -> list[bytes]:
    """The last of them is the last that changes the list; there is one event that nobody can read."""
    return [
        body_of("delivered", 17, now - 100),
        *(body_of("soft_bounced", number, now - 200) for number in (14, 15, 16)),
        body_of("hard_bounced", 1, now - 90),
        body_of("complained", 2, now - 90),
        body_of("unsubscribed", 3, now - 90),
        body_of("hard_bounced", 11, now - 90),
        body_of("hard_bounced", KNOWN_BY_NOBODY, now - 90),
        body_of("delivered", KNOWN_BY_NOBODY + 1, now - 90),
        body_of("skipped", 8, now - 90),
        body_of("opened", 1, now - 90),
        b'{"message": 1}',
        *(body_of("soft_bounced", number, now - 90 + number) for number in (4, 5, 6)),
    ]


async def prepare(store: Store) -> None:
    """A list on which nothing is, and that knows the messages."""
    await store.remember(ADDRESSES)
    address = ADDRESSES["11"]
    await store.add(address, actor="ann", note="")
    await store.remove(address, reason=None, actor="ann", note="a new mailbox")


class Trying:
    """The command, with this test's names and lists."""

    def __init__(self, directory: Path, amqp_url: str, prefix: str) -> None:
        self._directory = directory
        self._variables = {"BRIDGE_RABBITMQ__URL": amqp_url, "BRIDGE_RABBITMQ__PREFIX": prefix}

    async def __call__(self, url: str, *arguments: str) -> Outcome:
        return await bridge(
            "policy",
            "dry-run",
            *arguments,
            directory=self._directory,
            BRIDGE_SUPPRESSION__DATABASE_URL=url,
            **self._variables,
        )

    async def document(self, url: str, *changes: str) -> dict[str, Any]:
        options = [part for change in changes for part in ("--set", change)]
        outcome = await self(url, "--since", "7d", "--json", *options)
        assert outcome.code == 0, outcome.stderr
        document: dict[str, Any] = orjson.loads(outcome.stdout)
        return document


@pytest.fixture
def trying(tmp_path: Path, amqp_url: str, prefix: str) -> Trying:
    return Trying(tmp_path, amqp_url, prefix)


def keys(entries: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(entry["address"], entry["reason"]) for entry in entries]


async def test_a_dry_run_says_what_then_happens(
    rabbit: Rabbit,
    settings: Settings,
    overrides: dict[str, Any],
    workplace: Workplace,
    trying: Trying,
    tmp_path: Path,
) -> None:
    """Every entry with all that is on it; what persons have taken off stays off, and unknown messages are counted."""
    now = int(time.time())
    await archive(rabbit, settings, [(body, now * 1000) for body in happened(now)])
    url = settings.suppression.database_url.get_secret_value()
    async with Store.open(url) as store:
        await prepare(store)
    tried = await trying.document(url, ALL, "unsubscribe_expiry=86400")
    assert (tried["used"], tried["unknown"], tried["gone"], tried["changed"]) == (13, 1, [], [])
    assert keys(tried["added"]) == [
        (ALWAYS, "soft_bounce"),
        (ADDRESSES["1"], "hard_bounce"),
        (ADDRESSES["2"], "complaint"),
        (ADDRESSES["3"], "unsubscribe"),
        (ADDRESSES["8"], "skipped"),
    ]
    async with Store.open(url) as store:
        assert await store.entries(limit=9) == [], "nothing was changed"

    fresh = f"sqlite+aiosqlite:///{tmp_path}/fresh.sqlite3"
    async with Store.open(fresh) as store:
        await prepare(store)
    policy = {"database_url": fresh, "events": NAMES, "unsubscribe_expiry": 86400}
    async with working(load_settings(overrides=changed(overrides, suppression=policy))):
        replayed = await bridge(
            "replay",
            "--since",
            "7d",
            "--to",
            rabbit.names.suppression,
            directory=tmp_path,
            **trying._variables,
        )
        assert replayed.code == 0, replayed.stderr
        await workplace.changes(2 + len(tried["added"]))
    async with Store.open(fresh) as store:
        entries = [entry.document() for entry in await store.entries(limit=99)]
    for entry in entries:
        del entry["evidence"], entry["created_at"], entry["updated_at"]
    assert entries == tried["added"]

    # Now that it is on the list, settings that do less, or something else.
    less = await trying.document(fresh, "events=hard_bounced,soft_bounced", "soft_bounce_threshold=4")
    assert keys(less["gone"]) == [
        (ALWAYS, "soft_bounce"),
        *(
            (ADDRESSES[number], reason)
            for number, reason in (("2", "complaint"), ("3", "unsubscribe"), ("8", "skipped"))
        ),
    ]
    assert (less["added"], less["changed"], less["same"]) == ([], [], 1)
    other = await trying.document(fresh, ALL, "unsubscribe_expiry=86400", "hard_bounce_expiry=864000")
    ((before, after),) = ((one["before"], one["after"]) for one in other["changed"])
    assert before["expires_at"] is None
    assert after["expires_at"] is not None
    assert (other["added"], other["gone"], other["same"]) == ([], [], 4)


async def test_for_people_it_is_a_table(rabbit: Rabbit, settings: Settings, trying: Trying) -> None:
    """And a line that sums it up; what cannot be tried is one line and an exit code."""
    now = int(time.time())
    await archive(rabbit, settings, [(body_of("unsubscribed", 3, now), now * 1000)])
    url = settings.suppression.database_url.get_secret_value()
    without_list = await trying(url, "--since", "7d")
    assert without_list.code == 1
    assert "no suppression list" in without_list.stderr
    async with Store.open(url) as store:
        await store.remember(ADDRESSES)
    outcome = await trying(url, "--set", "suppression.events=unsubscribed")
    assert outcome.code == 0, outcome.stderr
    assert "would be added" in outcome.stdout
    assert ADDRESSES["3"] in outcome.stdout
    assert "1 entries would be added, 0 gone" in outcome.stderr
    for change, complaint in (
        ("events=opened", "suppression.events.0: Input should be 'hard_bounced'"),
        ("event=opened", "suppression.event: there is no such setting"),
        ("events", "--set is written as NAME=VALUE"),
    ):
        refused = await trying(url, "--set", change)
        assert refused.code == 2
        assert complaint in refused.stderr
