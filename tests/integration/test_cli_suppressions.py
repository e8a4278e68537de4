"""`bridge suppressions`, as a person or a program calls it."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from typing import Protocol

import pytest
import typer
from typer.testing import CliRunner, Result

from bridge.cli import main, suppressions
from bridge.suppression.policy import Reason
from bridge.suppression.store import Incident, Store
from tests.support import stores
from tests.support.postgres import is_postgresql

COMMANDS = ("check", "list", "add", "remove", "history")


class Bridge(Protocol):
    def __call__(self, *arguments: str) -> Result: ...


@pytest.fixture
def bridge(database_url: str) -> Bridge:
    """`bridge suppressions …` on a database of its own, in a terminal that is wide enough."""
    app = typer.Typer()
    app.callback()(main.options)
    app.add_typer(suppressions.app, name="suppressions")
    url = database_url if is_postgresql(database_url) else f"{database_url}?timeout=0.05"
    environment = {"BRIDGE_SUPPRESSION__DATABASE_URL": url, "COLUMNS": "200"}

    def run(*arguments: str) -> Result:
        return CliRunner(env=environment).invoke(app, ["suppressions", *arguments])

    return run


@pytest.fixture
def suppressed(database_url: str) -> None:
    """Jane has bounced and complained."""

    async def record() -> None:
        async with Store.open(database_url) as store:
            await store.record(
                [
                    Incident("Jane@Example.org", Reason.HARD_BOUNCE, "e1", 1_539_062_173, "41", b'{"a":1}'),
                    Incident("jane@example.org", Reason.COMPLAINT, "e2", 1_539_062_174, "42", b"{}"),
                ],
                actor="worker",
            )

    asyncio.run(record())


@pytest.mark.usefixtures("suppressed")
def test_check_exits_with_3_for_an_address_that_is_suppressed(bridge: Bridge) -> None:
    """People see why, in any spelling of the address."""
    result = bridge("check", "JANE@example.org")
    assert result.exit_code == 3
    for seen in ("jane@example.org", "hard_bounce", "complaint", "2018-10-09 05:16:13", "never"):
        assert seen in result.stdout


@pytest.mark.usefixtures("suppressed")
def test_check_exits_with_0_for_one_that_is_not(bridge: Bridge) -> None:
    """And says so."""
    result = bridge("check", "joe@example.org")
    assert (result.exit_code, result.stdout) == (0, "joe@example.org is not suppressed\n")


@pytest.mark.usefixtures("suppressed")
def test_check_tells_programs_everything(bridge: Bridge) -> None:
    """One document with the same shape in both cases, and the same exit codes."""
    result = bridge("check", "Jane@example.org", "--json")
    assert result.exit_code == 3
    document = json.loads(result.stdout)
    assert (document["address"], document["suppressed"]) == ("jane@example.org", True)
    complaint, bounce = document["entries"]
    assert complaint["reason"] == "complaint"
    assert bounce.pop("created_at") == bounce.pop("updated_at")
    assert bounce == {
        "address": "jane@example.org",
        "reason": "hard_bounce",
        "original": "Jane@Example.org",
        "first_event_at": "2018-10-09T05:16:13Z",
        "last_event_at": "2018-10-09T05:16:13Z",
        "count": 1,
        "message_id": "41",
        "evidence": '{"a":1}',
        "expires_at": None,
    }
    result = bridge("check", "Joe@example.org", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {"address": "joe@example.org", "suppressed": False, "entries": []}


@pytest.mark.usefixtures("suppressed")
@pytest.mark.parametrize("command", ["check", "add", "remove", "history"])
def test_what_is_no_address_exits_with_2(bridge: Bridge, command: str) -> None:
    """One line on standard error, nothing on standard output."""
    result = bridge(command, "jane", "--json")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "bridge: not an e-mail address: it has no @-sign\n"


@pytest.mark.parametrize("arguments", [("check", "a@example.org"), ("list",), ("history", "a@example.org")])
def test_a_list_that_is_not_there_cannot_be_asked(
    bridge: Bridge, database_url: str, arguments: tuple[str, ...]
) -> None:
    """Exit code 1, not "not suppressed"; and no empty list is left behind."""
    for _ in range(2):
        result = bridge(*arguments)
        assert (result.exit_code, result.stdout) == (1, "")
        assert "there is no suppression list" in result.stderr
        assert database_url.rpartition("@")[2].removeprefix("sqlite+aiosqlite:///") in result.stderr
        assert "BRIDGE_SUPPRESSION__DATABASE_URL" in result.stderr


@pytest.mark.usefixtures("suppressed")
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_locked_list_cannot_be_changed(bridge: Bridge, database_url: str) -> None:
    """Exit code 1 and one line, not a traceback."""
    with closing(sqlite3.connect(stores.file_of(database_url), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        result = bridge("add", "joe@example.org")
    assert result.exit_code == 1
    assert result.stderr.endswith("cannot be used now: database is locked\n")
    assert result.stderr.count("\n") == 1


@pytest.mark.usefixtures("suppressed")
def test_list_shows_what_is_asked_for(bridge: Bridge) -> None:
    """By reason, up to a limit, with the total; the same for programs."""
    everything = bridge("list")
    assert everything.exit_code == 0
    assert "2 of 2" in everything.stdout
    limited = bridge("list", "--limit", "1")
    assert "1 of 2" in limited.stdout
    assert "hard_bounce" not in limited.stdout
    bounces = bridge("list", "--reason", "hard_bounce", "--json")
    assert [(entry["address"], entry["reason"]) for entry in json.loads(bounces.stdout)] == [
        ("jane@example.org", "hard_bounce")
    ]
    assert bridge("list", "--reason", "mood").exit_code == 2
    assert bridge("list", "--limit", "0").exit_code == 2


def test_add_makes_the_list_and_the_entry(bridge: Bridge) -> None:
    """The first entry needs no worker; the log has the note, and brackets in it are no markup."""
    result = bridge("add", "Joe@Example.org", "--note", "[bold]asked", "--actor", "ann")
    assert (result.exit_code, result.stdout) == (0, "joe@example.org is suppressed (manual)\n")
    assert bridge("check", "joe@example.org").exit_code == 3
    history = bridge("history", "joe@example.org").stdout
    assert "[bold]asked" in history
    assert "ann" in history


def test_the_actor_is_whoever_is_logged_in(bridge: Bridge, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has to say who they are."""
    monkeypatch.setenv("LOGNAME", "caroline")
    assert bridge("add", "joe@example.org", "--json").exit_code == 0
    (change,) = json.loads(bridge("history", "joe@example.org", "--json").stdout)
    assert (change["action"], change["actor"]) == ("added", "caroline")


@pytest.mark.usefixtures("suppressed")
def test_remove_takes_the_entry_of_one_reason(bridge: Bridge) -> None:
    """The others stay."""
    result = bridge("remove", "Jane@example.org", "--reason", "hard_bounce", "--note", "new mailbox")
    assert (result.exit_code, result.stdout) == (
        0,
        "jane@example.org is no longer suppressed (hard_bounce)\n",
    )
    assert [entry["reason"] for entry in json.loads(bridge("list", "--json").stdout)] == ["complaint"]
    again = bridge("remove", "jane@example.org", "--reason", "hard_bounce")
    assert again.exit_code == 1
    assert again.stderr == "bridge: jane@example.org is not on the list for the reason hard_bounce\n"


@pytest.mark.usefixtures("suppressed")
def test_a_complaint_needs_an_override_and_a_note(bridge: Bridge) -> None:
    """Without both, exit code 1 and nothing removed; with both, everything."""
    for arguments in (("--note", "sorry"), ("--override",)):
        result = bridge("remove", "jane@example.org", *arguments)
        assert result.exit_code == 1
        assert "has complained" in result.stderr
        assert "2 of 2" in bridge("list").stdout
    result = bridge("remove", "jane@example.org", "--override", "--note", "subscribed anew", "--json")
    assert result.exit_code == 0
    assert [entry["reason"] for entry in json.loads(result.stdout)] == ["complaint", "hard_bounce"]
    assert bridge("check", "jane@example.org").exit_code == 0


@pytest.mark.usefixtures("suppressed")
def test_history_shows_who_did_what(bridge: Bridge) -> None:
    """Oldest first; an address that was never there is said to be so."""
    bridge("remove", "jane@example.org", "--reason", "hard_bounce", "--actor", "ann", "--note", "new mailbox")
    changes = json.loads(bridge("history", "jane@example.org", "--json").stdout)
    assert [(change["action"], change["reason"], change["actor"]) for change in changes] == [
        ("added", "hard_bounce", "worker"),
        ("added", "complaint", "worker"),
        ("removed", "hard_bounce", "ann"),
    ]
    shown = bridge("history", "jane@example.org").stdout
    assert shown.index("added") < shown.index("removed")
    assert bridge("history", "joe@example.org").stdout == "joe@example.org was never on the list\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example_and_the_variable(bridge: Bridge, command: str) -> None:
    """What to type, and where the list is."""
    result = bridge(command, "--help")
    assert result.exit_code == 0
    assert f"bridge suppressions {command}" in result.stdout
    assert "BRIDGE_SUPPRESSION__DATABASE_URL" in result.stdout


def test_help_of_check_documents_its_exit_codes(bridge: Bridge) -> None:
    """A script that relies on them finds them there."""
    text = " ".join(bridge("check", "--help").stdout.split())
    assert "0: it is not suppressed. 3: it is. 1: the list could not be asked. 2: it is no address." in text
