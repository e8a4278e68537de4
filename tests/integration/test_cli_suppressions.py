"""`bridge suppressions`, as a person or a program calls it."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import typer

from bridge.cli import suppressions
from bridge.suppression.policy import Reason
from bridge.suppression.store import Store
from bridge.suppression.suppressing_events import SuppressingEvent
from tests.support import commands as processes
from tests.support import list_commands, stores
from tests.support.postgres import is_postgresql

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.list_commands import Bridge

pytestmark = pytest.mark.quick

COMMANDS = ("check", "list", "add", "remove", "history", "allow")


@pytest.fixture
def bridge(database_url: str) -> Bridge:
    """`bridge suppressions …` on a database of its own, in a terminal that is wide enough."""
    return list_commands.on(database_url)


@pytest.fixture
def suppressed(database_url: str) -> None:
    """Jane has bounced and complained."""

    async def record() -> None:
        async with Store.open(database_url) as store:
            await store.record(
                [
                    SuppressingEvent(
                        "Jane@Example.org", Reason.HARD_BOUNCE, "e1", 1_539_062_173, "41", b'{"a":1}'
                    ),
                    SuppressingEvent("jane@example.org", Reason.COMPLAINT, "e2", 1_539_062_174, "42", b"{}"),
                ],
                actor="worker",
            )

    asyncio.run(record())


@pytest.mark.usefixtures("suppressed")
def test_check_exits_with_3_for_an_address_that_is_suppressed(bridge: Bridge) -> None:
    """People see why, in any spelling of the address."""
    result = bridge("check", "JANE@example.org")
    assert result.exit_code == 3
    for seen in ("jane@example.org", "hard_bounce", "complaint", "2018-10-09T05:16:13Z", "never"):
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
def test_check_of_several_exits_with_3_where_one_is_suppressed(bridge: Bridge) -> None:
    """Wherever it stands among them; of the others it says that they are not."""
    result = bridge("check", "joe@example.org", "JANE@example.org", "jim@example.org")
    assert result.exit_code == 3
    assert [line.split("\t")[:2] for line in result.stdout.splitlines()[1:]] == [
        ["jane@example.org", "complaint"],
        ["jane@example.org", "hard_bounce"],
    ]
    assert result.stderr == "joe@example.org is not suppressed\njim@example.org is not suppressed\n"
    result = bridge("check", "joe@example.org", "jim@example.org")
    assert result.exit_code == 0
    assert result.stdout == "joe@example.org is not suppressed\njim@example.org is not suppressed\n"


@pytest.mark.usefixtures("suppressed")
def test_check_of_several_is_a_list_for_programs(bridge: Bridge) -> None:
    """In their order, each with the shape that one alone has."""
    result = bridge("check", "Joe@example.org", "jane@example.org", "--json")
    assert result.exit_code == 3
    document = json.loads(result.stdout)
    assert (document["total"], document["next"]) == (2, None)
    assert document["items"] == [
        json.loads(bridge("check", address, "--json").stdout)
        for address in ("joe@example.org", "jane@example.org")
    ]


@pytest.mark.usefixtures("suppressed")
@pytest.mark.parametrize("addresses", [["jane@example.org", "jim"], ["jim", "jane@example.org"]])
def test_check_of_several_tells_nothing_where_one_is_no_address(bridge: Bridge, addresses: list[str]) -> None:
    """Exit code 2, which nobody takes for an answer about the others."""
    result = bridge("check", *addresses)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "bridge: not an e-mail address: it has no @-sign\n"


@pytest.mark.usefixtures("suppressed")
@pytest.mark.parametrize("command", ["check", "add", "remove", "history"])
def test_what_is_no_address_exits_with_2(bridge: Bridge, command: str) -> None:
    """One line on standard error, nothing on standard output."""
    result = bridge(command, "jane", "--json")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "bridge: not an e-mail address: it has no @-sign\n"


def every_command() -> list[list[str]]:
    """Each command there is, with an address for each argument that it needs, and a yes to what it asks; also those to come."""
    return list(_commands_of(typer.main.get_command(suppressions.app)))


def _commands_of(command: Any) -> Iterator[list[str]]:
    if not isinstance(command, typer.core.TyperGroup):
        arguments = ["a@example.org" for one in command.params if one.param_type_name == "argument"]
        yield arguments + ["--yes" for one in command.params if one.name == "yes"]
        return
    for name, one in command.commands.items():
        for rest in _commands_of(one):
            yield [name, *rest]


@pytest.mark.no_list
@pytest.mark.parametrize("arguments", every_command(), ids=" ".join)
def test_a_list_that_is_not_there_is_not_made(
    bridge: Bridge, database_url: str, arguments: list[str]
) -> None:
    """Exit code 1 and one line that says where it was looked for; nobody is "suppressed" or not, and nothing is left."""
    for _ in range(2):
        result = bridge(*arguments)
        assert (result.exit_code, result.stdout) == (1, "")
        assert "there is no suppression list" in result.stderr
        assert database_url.rpartition("@")[2].removeprefix("sqlite+aiosqlite:///") in result.stderr
        assert "BRIDGE_SUPPRESSION__DATABASE_URL" in result.stderr
        assert "bridge db upgrade" in result.stderr
        assert result.stderr.count("\n") == 1
    if not is_postgresql(database_url):
        assert not Path(stores.file_of(database_url)).exists()


@pytest.mark.no_list
@pytest.mark.parametrize("arguments", every_command(), ids=" ".join)
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_file_without_a_list_gets_none(bridge: Bridge, database_url: str, arguments: list[str]) -> None:
    """Be it empty, or the database of something else."""
    file = Path(stores.file_of(database_url)).resolve()
    for statements in ("", "CREATE TABLE notes (id INTEGER)"):
        file.touch()
        with closing(sqlite3.connect(file)) as other:
            other.executescript(statements)
        result = bridge(*arguments)
        assert (result.exit_code, result.stdout) == (1, "")
        assert f"there is no suppression list at {file}; " in result.stderr
        with closing(sqlite3.connect(file)) as other:
            assert [name for (name,) in other.execute("SELECT name FROM sqlite_master")] in ([], ["notes"])


def test_a_wrong_folder_is_named(tmp_path: Path) -> None:
    """The default is a file in the folder one is in: the line says which folder that was."""
    seen = asyncio.run(processes.bridge("suppressions", "add", "jane@example.org", directory=tmp_path))
    assert (seen.code, seen.stdout) == (1, "")
    assert seen.stderr.startswith(
        f"bridge: there is no suppression list at {tmp_path}/suppressions.sqlite3; run "
    )
    assert list(tmp_path.iterdir()) == []


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
    assert everything.stderr == "2 of 2\n"
    limited = bridge("list", "--limit", "1")
    assert limited.stderr == "1 of 2; more with --after complaint:jane@example.org\n"
    assert "hard_bounce" not in limited.stdout
    bounces = bridge("list", "--reason", "hard_bounce", "--json")
    assert [(entry["address"], entry["reason"]) for entry in json.loads(bounces.stdout)["items"]] == [
        ("jane@example.org", "hard_bounce")
    ]
    assert bridge("list", "--reason", "mood").exit_code == 2
    assert bridge("list", "--limit", "0").exit_code == 2


def test_who_forgets_a_limit_gets_everything(
    bridge: Bridge, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As JSON and as lines, over many pages; with a limit it is said that there is more, and from where."""
    monkeypatch.setattr("bridge.operations.suppressions.PAGE", 7)
    addresses = [f"a{number:03}@example.org" for number in range(130)]
    reasons = (Reason.HARD_BOUNCE, Reason.COMPLAINT)
    suppressing_events = [
        SuppressingEvent(address, reason, f"{address}{reason}", 1_539_062_173, "41", b"{}")
        for address in addresses
        for reason in reasons
    ]

    async def record() -> None:
        async with Store.open(database_url) as store:
            await store.record(suppressing_events, actor="worker")

    asyncio.run(record())
    whole = json.loads(bridge("list", "--json").stdout)
    assert (whole["total"], whole["next"], len(whole["items"])) == (260, None, 260)
    heads, *lines = bridge("list").stdout.splitlines()
    assert heads.split("\t") == ["Address", "Reason", "Count", "Last, UTC", "Expires"]
    assert lines[0].split("\t") == [addresses[0], "complaint", "1", "2018-10-09T05:16:13Z", "never"]
    assert len(lines) == 260
    parts: list[dict[str, Any]] = []
    following: list[str] = []
    while not parts or following:
        part = json.loads(bridge("list", "--json", "--limit", "99", *following).stdout)
        parts += part["items"]
        following = ["--after", part["next"]] if part["next"] else []
        assert part["total"] == 260
    assert parts == whole["items"]
    complaints = json.loads(bridge("list", "--json", "--reason", "complaint").stdout)
    assert [entry["address"] for entry in complaints["items"]] == addresses
    assert bridge("list", "--after", "jane@example.org").exit_code == 2


@pytest.mark.usefixtures("suppressed")
def test_add_makes_the_entry(bridge: Bridge) -> None:
    """The log has the note, and brackets in it are no markup."""
    result = bridge("add", "Joe@Example.org", "--note", "[bold]asked", "--actor", "ann")
    assert (result.exit_code, result.stdout) == (0, "joe@example.org is suppressed (manual)\n")
    assert bridge("check", "joe@example.org").exit_code == 3
    history = bridge("history", "joe@example.org").stdout
    assert "[bold]asked" in history
    assert "ann" in history


@pytest.mark.usefixtures("suppressed")
def test_the_actor_is_whoever_is_logged_in(bridge: Bridge, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has to say who they are."""
    monkeypatch.setenv("LOGNAME", "caroline")
    assert bridge("add", "joe@example.org", "--json").exit_code == 0
    (change,) = json.loads(bridge("history", "joe@example.org", "--json").stdout)["items"]
    assert (change["action"], change["actor"]) == ("added", "caroline")


@pytest.mark.usefixtures("suppressed")
def test_a_dry_run_of_add_says_what_would_change(bridge: Bridge) -> None:
    """Whether the address would be new on the list; nothing is added, and there is nothing in the log."""
    assert bridge("add", "Joe@Example.org", "--dry-run").stdout == "would add joe@example.org (manual)\n"
    assert json.loads(bridge("add", "Joe@Example.org", "--dry-run", "--json").stdout) == {
        "dry_run": True, "address": "joe@example.org", "added": True, "reasons": ["manual"],
    }  # fmt: skip
    assert json.loads(bridge("history", "joe@example.org", "--json").stdout)["total"] == 0
    other = bridge("add", "jane@example.org", "--dry-run").stdout
    assert other == "would add jane@example.org (manual); it is suppressed already (complaint, hard_bounce)\n"
    bridge("add", "joe@example.org")
    assert (
        bridge("add", "joe@example.org", "--dry-run").stdout
        == "joe@example.org is on the list already (manual)\n"
    )
    assert json.loads(bridge("add", "joe@example.org", "--dry-run", "--json").stdout)["added"] is False
    assert json.loads(bridge("history", "joe@example.org", "--json").stdout)["total"] == 1
    assert bridge("add", "joe", "--dry-run").exit_code == 2


@pytest.mark.usefixtures("suppressed")
def test_a_dry_run_of_remove_says_what_would_change(bridge: Bridge) -> None:
    """What would go and what would stay; what is refused is refused with the same words. Nothing is removed."""
    before = bridge("list").stdout
    bounce = bridge("remove", "JANE@example.org", "--reason", "hard_bounce", "--dry-run")
    assert (bounce.exit_code, bounce.stdout) == (
        0,
        "would remove jane@example.org (hard_bounce); it would still be suppressed (complaint)\n",
    )
    lifted = bridge("remove", "jane@example.org", "--override", "--note", "asked", "--dry-run", "--json")
    document = json.loads(lifted.stdout)
    assert (document["dry_run"], document["still_suppressed"], document["reasons"]) == (True, False, [])
    assert [entry["reason"] for entry in document["removed"]] == ["complaint", "hard_bounce"]
    assert bridge("list").stdout == before
    for arguments in (["jane@example.org"], ["joe@example.org"]):
        refused, really = bridge("remove", *arguments, "--dry-run"), bridge("remove", *arguments)
        assert (refused.exit_code, refused.output) == (really.exit_code, really.output)
        assert refused.exit_code == 1


def test_who_reads_a_history_in_parts_gets_all_of_it_once(bridge: Bridge, database_url: str) -> None:
    """`next` says from where; the total is always that of the whole."""

    async def record() -> None:
        async with Store.open(database_url) as store:
            for number in range(5):
                await store.add("jane@example.org", actor="ann", note=f"note {number}")
                await store.add("joe@example.org", actor="ann", note="")

    asyncio.run(record())
    parts: list[dict[str, Any]] = []
    following: list[str] = []
    while not parts or following:
        part = json.loads(bridge("history", "jane@example.org", "--json", "--limit", "2", *following).stdout)
        assert part["total"] == 5
        parts += part["items"]
        following = ["--after", part["next"]] if part["next"] else []
    whole = json.loads(bridge("history", "jane@example.org", "--json").stdout)
    assert (parts, whole["next"]) == (whole["items"], None)
    assert [change["note"] for change in parts] == [f"note {number}" for number in range(5)]
    shown = bridge("history", "jane@example.org", "--limit", "2")
    assert shown.stderr == f"2 of 5; more with --after {parts[1]['id']}\n"
    assert len(shown.stdout.splitlines()) == 3


@pytest.mark.usefixtures("suppressed")
def test_remove_takes_the_entry_of_one_reason(bridge: Bridge) -> None:
    """The others stay."""
    result = bridge("remove", "Jane@example.org", "--reason", "hard_bounce", "--note", "new mailbox")
    assert (result.exit_code, result.stdout) == (
        0,
        "jane@example.org is still suppressed (complaint); removed: hard_bounce\n",
    )
    assert [entry["reason"] for entry in json.loads(bridge("list", "--json").stdout)["items"]] == [
        "complaint"
    ]
    again = bridge("remove", "jane@example.org", "--reason", "hard_bounce")
    assert again.exit_code == 1
    assert again.stderr == "bridge: jane@example.org is not on the list for the reason hard_bounce\n"


@pytest.mark.usefixtures("suppressed")
def test_what_remains_is_said_by_remove_and_add(bridge: Bridge) -> None:
    """Who lifts a complaint hears of the bounce that is still there, and who adds of all reasons; programs, too."""
    override = ("--override", "--note", "asked")
    result = bridge("remove", "jane@example.org", "--reason", "complaint", *override, "--json")
    document = json.loads(result.stdout)
    assert (document["still_suppressed"], document["reasons"]) == (True, ["hard_bounce"])
    added = bridge("add", "jane@example.org")
    assert added.stdout == "jane@example.org is suppressed (hard_bounce, manual)\n"
    last = bridge("remove", "jane@example.org")
    assert last.stdout == "jane@example.org is no longer suppressed (hard_bounce, manual)\n"
    changes = json.loads(bridge("history", "jane@example.org", "--json").stdout)["items"]
    assert [(change["action"], change["still_suppressed"], change["reasons"]) for change in changes] == [
        ("added", True, ["hard_bounce"]),
        ("added", True, ["complaint", "hard_bounce"]),
        ("removed", True, ["hard_bounce"]),
        ("added", True, ["hard_bounce", "manual"]),
        ("removed", True, ["manual"]),
        ("removed", False, []),
    ]


@pytest.mark.usefixtures("suppressed")
def test_a_complaint_needs_an_override_and_a_note(bridge: Bridge) -> None:
    """Without both, exit code 1 and nothing removed; with both, everything."""
    for arguments in (("--note", "sorry"), ("--override",)):
        result = bridge("remove", "jane@example.org", *arguments)
        assert result.exit_code == 1
        assert "has complained" in result.stderr
        assert "2 of 2" in bridge("list").stderr
    result = bridge("remove", "jane@example.org", "--override", "--note", "subscribed anew", "--json")
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert [entry["reason"] for entry in document["removed"]] == ["complaint", "hard_bounce"]
    assert (document["address"], document["still_suppressed"], document["reasons"]) == (
        "jane@example.org",
        False,
        [],
    )
    assert bridge("check", "jane@example.org").exit_code == 0


@pytest.mark.usefixtures("suppressed")
def test_history_shows_who_did_what(bridge: Bridge) -> None:
    """Oldest first; an address that was never there is said to be so."""
    bridge("remove", "jane@example.org", "--reason", "hard_bounce", "--actor", "ann", "--note", "new mailbox")
    changes = json.loads(bridge("history", "jane@example.org", "--json").stdout)["items"]
    assert [(change["action"], change["reason"], change["actor"]) for change in changes] == [
        ("added", "hard_bounce", "worker"),
        ("added", "complaint", "worker"),
        ("removed", "hard_bounce", "ann"),
    ]
    shown = bridge("history", "jane@example.org").stdout
    assert shown.index("added") < shown.index("removed")
    assert bridge("history", "joe@example.org").stderr == "joe@example.org was never on the list\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example_and_the_variable(bridge: Bridge, command: str) -> None:
    """What to type, and where the list is."""
    result = bridge(command, "--help")
    assert result.exit_code == 0
    assert f"bridge suppressions {command}" in result.stdout
    assert "BRIDGE_SUPPRESSION__DATABASE_URL" in result.stdout


SPELLINGS = [
    ('"Bob" <bob@example.org>', "BOB@EXAMPLE.ORG."),
    ("try..this@docomo.example.jp", 'Bob <"try..this"@docomo.example.jp>'),
    ("κς@my_host.example.org", "<ΚΣ@MY_HOST.example.org>"),
    ("bob@BÜCHER.example", "Bob (from the shop) <bob@xn--bcher-kva.example.>"),
]


@pytest.mark.usefixtures("suppressed")
@pytest.mark.parametrize(("added_as", "asked_as"), SPELLINGS)
def test_what_was_added_is_found_however_it_is_written(bridge: Bridge, added_as: str, asked_as: str) -> None:
    """With a name or without, in any case and script; and taken off, and in the log, the same way."""
    assert bridge("add", added_as).exit_code == 0
    assert bridge("check", added_as).exit_code == bridge("check", asked_as).exit_code == 3
    assert bridge("remove", asked_as).exit_code == 0
    assert bridge("check", added_as).exit_code == 0
    changes = json.loads(bridge("history", asked_as, "--json").stdout)["items"]
    assert [change["action"] for change in changes] == ["added", "removed"]


@pytest.mark.usefixtures("suppressed")
@pytest.mark.parametrize("command", ["check", "add", "remove", "history"])
def test_several_addresses_are_not_one(bridge: Bridge, command: str) -> None:
    """Exit code 2: never "not suppressed" for the one because of the other."""
    result = bridge(command, "jane@example.org, joe@example.org")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "bridge: not one e-mail address, but 2\n"


def test_help_of_check_documents_its_exit_codes(bridge: Bridge) -> None:
    """A script that relies on them finds them there."""
    text = " ".join(bridge("check", "--help").stdout.split())
    assert (
        "Exit codes: 0, none is suppressed; 1, the list could not be read, or the result not be printed"
        in text
    )
    assert "; 3, at least one is suppressed, whether that could be printed or not;" in text
