"""`bridge suppressions erase`, `hash` and `keys`, and `bridge db vacuum`, as a person calls them."""

from __future__ import annotations

import asyncio
import json
import shutil
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from bridge.cli.main import app
from bridge.settings.list_sections import Suppression
from bridge.spool.entries import SpoolEntry
from bridge.spool.spool_file import SpoolFile
from bridge.suppression.address_keys import keys_of
from bridge.suppression.policy import Reason
from bridge.suppression.store import Store
from bridge.suppression.suppressing_events import SuppressingEvent

if TYPE_CHECKING:
    from pathlib import Path

    from typer.testing import Result


JANE = "jane.erased@example.org"
KEY = "k1:" + "1" * 32
HASH = keys_of(Suppression.model_validate({"privacy_keys": [KEY]})).looked_up(JANE)[1]


@pytest.fixture(autouse=True)
def known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jane is on a list; the settings name it, a key, and a spool folder."""
    url = f"sqlite+aiosqlite:///{tmp_path}/list.sqlite3"
    monkeypatch.setenv("BRIDGE_SUPPRESSION__DATABASE_URL", url)
    monkeypatch.setenv("BRIDGE_SUPPRESSION__PRIVACY_KEYS", KEY)
    monkeypatch.setenv("BRIDGE_SPOOL__DIRECTORY", str(tmp_path / "spool"))
    asyncio.run(_fill(url))


async def _fill(url: str) -> None:
    async with Store.open(url) as store:
        bounced = SuppressingEvent(JANE, Reason.HARD_BOUNCE, "e1", 1_700_000_000, "41", b"raw event")
        await store.record([bounced], actor="worker", addresses={"42": "Jane.Erased@example.org"})


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    """Four events wait in it: two of Jane's, one with her address in it, and one of somebody else."""
    (tmp_path / "spool").mkdir()
    file = SpoolFile(tmp_path / "spool" / "spool-0.sqlite3", min_free_bytes=0)
    bodies = [body_of(41), body_of(42), b'{"odd": "JANE.erased@example.org"}', body_of(43)]
    file.write([SpoolEntry(number, 1, body) for number, body in enumerate(bodies, 1)], ())
    file.close()
    return tmp_path / "spool"


def body_of(message: int) -> bytes:
    return json.dumps(
        {"message": {"id": message}, "event": {"name": "opened", "timestamp": 1_700_000_000}}
    ).encode()


def bridge(*arguments: str, answer: str | None = None) -> Result:
    return CliRunner().invoke(app, arguments, input=answer)


def contents_of(folder: Path) -> bytes:
    """Of all files in it, and below, in lower case."""
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file()).lower()


def test_a_person_is_erased_from_list_and_spool(tmp_path: Path, spool: Path) -> None:
    """A byte search finds the address nowhere in the files, nor the raw events; others' events wait on; a check says no."""
    erased = bridge("suppressions", "erase", JANE, "--note", f"{JANE} asked", "--yes")
    assert erased.exit_code == 0, erased.output
    assert f"the person is {HASH} from now on, and stays suppressed (hard_bounce)" in erased.stdout
    assert "3 spooled events" in erased.stdout
    for left in ("email.events.archive", "7D", "backups", "bridge db vacuum", "other services"):
        assert left in erased.stdout, "what is not erased is said"
    assert bridge("db", "vacuum").exit_code == 0
    assert JANE.encode() not in contents_of(tmp_path)
    assert body_of(42) not in contents_of(spool)
    assert body_of(43) in contents_of(spool)
    assert bridge("suppressions", "check", JANE).exit_code == 3


def test_a_dry_run_says_what_would_be_erased(tmp_path: Path, spool: Path) -> None:
    """And a question that is answered with no; neither changes anything."""
    preview = bridge("suppressions", "erase", JANE, "--dry-run", "--json")
    document = json.loads(preview.stdout)
    assert document["key"] == HASH
    assert document["found"] == {
        "entries": 1, "changes": 1, "liftings": 0, "soft bounces": 0, "deliveries": 0, "allow rules": 0,
        "known messages": 1,
    }  # fmt: skip
    assert document["spool"] == {"erased": 3, "in_use": 0, "unread": []}
    assert bridge("suppressions", "erase", JANE, answer="n\n").exit_code == 1
    assert bridge("suppressions", "erase", JANE, "--json").exit_code == 2
    assert body_of(42) in contents_of(spool)
    assert JANE.encode() in contents_of(tmp_path)


def test_what_cannot_be_erased_from_the_spool_is_said(spool: Path) -> None:
    """A file that a receiver has, since it publishes them itself, and a corrupt one."""
    shutil.copy(spool / "spool-0.sqlite3", spool / "spool-1.sqlite3")
    (spool / "spool-2.sqlite3.corrupt-20260101T000000.0-1").write_bytes(b"nothing that can be read")
    (spool / "spool-3.sqlite3").write_bytes(b"nothing that can be read" * 100)
    in_use = SpoolFile(spool / "spool-0.sqlite3", min_free_bytes=0)
    document = json.loads(bridge("suppressions", "erase", JANE, "--yes", "--json").stdout)
    assert (document["spool"]["erased"], document["spool"]["in_use"]) == (3, 3)
    assert [path.rpartition("spool-")[2][0] for path in document["spool"]["unread"]] == ["2", "3"]
    assert "3 events in spool files that a receiver uses" in document["left"][-3]
    in_use.close()


def test_without_a_key_it_says_how_to_make_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """In one line; nothing is erased."""
    monkeypatch.setenv("BRIDGE_SUPPRESSION__PRIVACY_KEYS", "")
    refused = bridge("suppressions", "erase", JANE, "--yes")
    assert refused.exit_code == 1
    assert "openssl rand -hex 32" in refused.stderr
    assert bridge("suppressions", "erase", "nobody", "--yes").exit_code in {1, 2}


def test_a_list_is_hashed_and_its_keys_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the settings say so; after it, and a vacuum, the file has no address."""
    assert bridge("suppressions", "hash").exit_code == 1
    monkeypatch.setenv("BRIDGE_SUPPRESSION__PRIVACY", "hmac")
    assert bridge("suppressions", "check", JANE).exit_code == 3
    assert json.loads(bridge("suppressions", "hash", "--json").stdout) == {"hashed": 2}
    assert bridge("db", "vacuum", "--json").exit_code == 0
    assert b"jane" not in contents_of(tmp_path)
    assert bridge("suppressions", "check", JANE).exit_code == 3
    counted = json.loads(bridge("suppressions", "keys", "--json").stdout)
    assert [(one["key"], one["entries"], one["known_messages"]) for one in counted["items"]] == [
        (None, 0, 0),
        ("k1", 1, 1),
    ]
    assert "(plain text)" in bridge("suppressions", "keys").stdout
