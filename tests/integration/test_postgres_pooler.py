"""A PgBouncer between the bridge and PostgreSQL: in session mode it is as if there was none, else it is refused."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from bridge.suppression import postgresql_session
from bridge.suppression.errors import StoreError, StoreUnavailableError
from bridge.suppression.policy import Reason
from bridge.suppression.postgresql import PostgresqlDatabase
from bridge.suppression.store import Store
from bridge.suppression.suppressing_events import SuppressingEvent
from tests.support.commands import bridge
from tests.support.pooler import PGBOUNCER, pooled
from tests.support.stores import NEWEST

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.processes import Processes

pytestmark = pytest.mark.skipif(
    PGBOUNCER is None, reason="there is no pgbouncer here (Debian: apt-get install it)"
)

REFUSAL = "use pool_mode = session for it, or PostgreSQL's own port"
SETTINGS = {
    "application_name": "bridge",
    "statement_timeout": "10s",
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "10s",
    "tcp_keepalives_idle": "15",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "30000",
}


def suppressing_event(event_id: str) -> SuppressingEvent:
    return SuppressingEvent(
        f"{event_id}@example.org", Reason.HARD_BOUNCE, event_id, 1000, f"m-{event_id}", b"{}"
    )


@pytest.mark.parametrize("through_pooler", [True, False], ids=["pooled", "direct"])
async def test_every_session_has_our_settings(postgresql_url: str, *, through_pooler: bool) -> None:
    """With a pooler or without, each of them, in every connection that the store may have."""
    all_of_them = asyncio.Barrier(4)

    async def settings(database: PostgresqlDatabase) -> dict[str, str]:
        async with database.read() as connection:
            await all_of_them.wait()
            return {name: str(await connection.scalar(text(f"SHOW {name}"))) for name in SETTINGS}

    async with pooled(postgresql_url, "session") as through:
        database = PostgresqlDatabase(through if through_pooler else postgresql_url)
        try:
            assert await asyncio.gather(*(settings(database) for _ in range(4))) == [SETTINGS] * 4
        finally:
            await database.close()


async def test_a_list_is_kept_through_a_pooler_in_session_mode(postgresql_url: str, tmp_path: Path) -> None:
    """Migrated by the command, written and read by many at once; what is there is there without it, too."""
    async with pooled(postgresql_url, "session") as through:
        made = await bridge(
            "db", "upgrade", "--wait", "60", directory=tmp_path, BRIDGE_SUPPRESSION__DATABASE_URL=through
        )
        assert (made.code, f"revision {NEWEST} now" in made.stdout) == (0, True), made
        async with Store.open(through) as one, Store.open(through) as other:
            everything = [suppressing_event(f"e{number}") for number in range(50)]
            recorded = await asyncio.gather(
                *(store.record(everything, actor="worker") for store in (one, other) for _ in range(3))
            )
    outcomes = [each.outcome for some in recorded for each in some]
    assert (outcomes.count("added"), outcomes.count("repeated")) == (50, 250)
    async with Store.open(postgresql_url) as store:
        assert (await store.count_by_reason())[Reason.HARD_BOUNCE] == 50


@pytest.mark.parametrize(("mode", "size"), [("transaction", 1), ("transaction", 20), ("statement", 20)])
async def test_a_pooler_that_keeps_no_session_is_refused(
    postgresql_url: str, monkeypatch: pytest.MonkeyPatch, mode: str, size: int
) -> None:
    """At once, by what is seen of it; not as something that waiting might help."""
    # Who stands still for two seconds has not kept a session.
    monkeypatch.setattr(postgresql_session, "_PROBE_SECONDS", 20.0)
    async with pooled(postgresql_url, mode, size=size) as through:
        for _ in range(3):
            with pytest.raises(StoreError, match=REFUSAL) as refusal:
                async with Store.open(through):
                    pass
            assert not isinstance(refusal.value, StoreUnavailableError)


async def test_a_pooler_in_session_mode_may_have_a_single_session(postgresql_url: str) -> None:
    """That it has no second one to look with speaks for it."""
    async with pooled(postgresql_url, "session", size=1) as through:
        database = PostgresqlDatabase(through)
        try:
            assert (await database.revisions()).current is None
        finally:
            await database.close()


async def test_a_command_and_a_worker_end_with_one_line_at_a_pooler_in_transaction_mode(
    postgresql_url: str, tmp_path: Path, processes: Processes, overrides: dict[str, Any]
) -> None:
    """Exit code 1, `--wait` or not: somebody has to change a setting."""
    async with pooled(postgresql_url, "transaction") as through:
        refused = await bridge(
            "db", "upgrade", "--wait", "60", directory=tmp_path, BRIDGE_SUPPRESSION__DATABASE_URL=through
        )
        assert (refused.code, refused.stdout) == (1, "")
        assert REFUSAL in " ".join(refused.stderr.split())
        overrides["suppression"]["database_url"] = through
        worker = await processes.start("worker", overrides=overrides)
        assert await worker.ended() == 1


async def test_a_parameter_of_the_url_that_the_pooler_does_not_know_is_not_waited_for(
    postgresql_url: str,
) -> None:
    """It names the parameter; only the settings can mend it."""
    async with pooled(postgresql_url, "session") as through:
        with pytest.raises(StoreError, match="unsupported startup parameter: work_mem") as refusal:
            async with Store.open(f"{through}?work_mem=8MB"):
                pass
        assert not isinstance(refusal.value, StoreUnavailableError)
