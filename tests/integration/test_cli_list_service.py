"""`bridge suppressions` for mailings and for people who clean up: a file of addresses, filters, the past, the allow-list."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from bridge.suppression.policy import Reason
from bridge.suppression.store import Store
from tests.support import list_commands
from tests.support.clock import Clock

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.list_commands import Bridge

pytestmark = pytest.mark.quick

THEN = 1_700_000_000
BEFORE, AT, LATER = "2023-11-14T22:13:19Z", "2023-11-14T22:13:20Z", "2023-11-14T22:13:50Z"


@pytest.fixture
def bridge(database_url: str) -> Bridge:
    """On a list on which Jane has bounced, Ann was added until 30 s later, and Joe has complained."""

    async def fill() -> None:
        async with Store.open(database_url, clock=Clock(THEN)) as store:
            await store.add("jane@example.org", reason=Reason.HARD_BOUNCE, actor="worker", note="")
            await store.add("ann@example.org", actor="bob", note="", expires_at=THEN + 30)
            await store.add("joe@mail.example.org", reason=Reason.COMPLAINT, actor="worker", note="")

    asyncio.run(fill())
    return list_commands.on(database_url)


def items(bridge: Bridge, *arguments: str) -> list[str]:
    """The addresses that `list` shows."""
    document = json.loads(bridge("list", "--json", *arguments).stdout)
    assert document["total"] == len(document["items"])
    return [entry["address"] for entry in document["items"]]


def test_a_file_is_checked_line_by_line(bridge: Bridge, tmp_path: Path) -> None:
    """A document a line, in order, also for what is no address; exit code 3, and a summary for people."""
    lines = [
        "\ufeffJANE@example.org", "", "new@example.org\r", "nobody", "ann@example.org", "  jane@example.org", "\0",
        "x" * 40_000 + "@example.org", "joe@mail.example.org",
    ]  # fmt: skip
    file = tmp_path / "addresses.txt"
    file.write_text("\n".join(lines))
    result = bridge("check", "--file", str(file))
    assert result.exit_code == 3
    documents = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(one["address"][:20], one["allowed"]) for one in documents] == [
        ("jane@example.org", False),
        ("new@example.org", True),
        ("nobody", False),
        ("ann@example.org", True),
        ("jane@example.org", False),
        ("\0", False),
        ("x" * 20, False),
        ("joe@mail.example.org", False),
    ]
    assert documents[0]["reasons"] == [{"reason": "hard_bounce", "since": AT, "expires": None}]
    assert [one["error"] is None for one in documents] == [True, True, False, True, True, False, False, True]
    assert result.stderr == "2 allowed, 3 suppressed, 3 no addresses\n"


def test_the_exit_code_says_what_a_file_has(bridge: Bridge, monkeypatch: pytest.MonkeyPatch) -> None:
    """0 where all are allowed, 2 where some are no addresses, 3 before that; over several queries, from a pipe."""
    monkeypatch.setattr("bridge.operations.suppressions.AT_ONCE", 2)
    allowed = b"a@example.org\nb@example.org\nc@example.org"
    assert bridge("check", "--file", "-", stdin=allowed).exit_code == 0
    assert bridge("check", "--file", "-", stdin=b"nobody\n" + allowed).exit_code == 2
    result = bridge("check", "--file", "-", "--json", stdin=b"nobody\n" + allowed + b"\njane@example.org\n")
    assert (result.exit_code, len(result.stdout.splitlines())) == (3, 5)
    assert bridge("check", "--file", "-", stdin=b"").exit_code == 0
    utf_16 = bridge("check", "--file", "-", stdin="jane@example.org\n".encode("utf-16"))
    assert utf_16.exit_code == 2
    assert all(json.loads(line)["error"] for line in utf_16.stdout.splitlines())


@pytest.mark.parametrize("arguments", [[], ["jane@example.org", "--file", "-"]], ids=["nothing", "both"])
def test_check_takes_addresses_or_a_file(bridge: Bridge, arguments: list[str]) -> None:
    """One of the two: exit code 2."""
    result = bridge("check", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "bridge: give addresses, or --file with a file of them\n"


def test_a_file_that_cannot_be_read_is_named(bridge: Bridge, tmp_path: Path) -> None:
    """Exit code 1, which nobody takes for an answer."""
    result = bridge("check", "--file", str(tmp_path / "none"))
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"bridge: {tmp_path}/none cannot be read: No such file or directory\n"


def test_list_is_narrowed_by_what_people_know(bridge: Bridge) -> None:
    """A domain in any spelling, a part of the address, when it changed, when it ends."""
    assert items(bridge, "--domain", "@Example.ORG.") == ["ann@example.org", "jane@example.org"]
    assert items(bridge, "--search", "JO") == ["joe@mail.example.org"]
    assert items(bridge, "--since", AT) == ["ann@example.org", "jane@example.org", "joe@mail.example.org"]
    assert items(bridge, "--since", "1h") == []
    assert items(bridge, "--expiring-before", "7d") == ["ann@example.org"]
    assert items(bridge, "--expiring-before", LATER) == []
    assert items(bridge, "--domain", "example.org", "--reason", "hard_bounce", "--all") == [
        "jane@example.org"
    ]
    page = json.loads(bridge("list", "--domain", "example.org", "--limit", "1", "--json").stdout)
    assert (page["total"], page["next"]) == (2, "manual:ann@example.org")
    for wrong in (["--since", "soon"], ["--domain", "a b"], ["--all", "--limit", "3"]):
        assert bridge("list", *wrong).exit_code == 2


def test_history_says_whether_it_was_suppressed_then(bridge: Bridge) -> None:
    """In words and for programs; the exit code is that of check."""
    assert bridge("history", "Ann@example.org", "--at", AT).exit_code == 3
    then = bridge("history", "ann@example.org", "--at", AT)
    assert then.stdout == f"ann@example.org was suppressed at {AT} (manual)\n"
    before = bridge("history", "ann@example.org", "--at", BEFORE)
    assert (before.exit_code, before.stdout) == (
        0, f"ann@example.org was not suppressed at {BEFORE}: it had never been on the list\n"
    )  # fmt: skip
    ended = bridge("history", "ann@example.org", "--at", LATER, "--json")
    assert ended.exit_code == 0
    document: dict[str, Any] = json.loads(ended.stdout)
    assert document.pop("change") > 0
    assert document == {"address": "ann@example.org", "at": LATER, "suppressed": False, "reasons": []}
    assert bridge("history", "ann@example.org", "--at", "yesterday").exit_code == 2


def test_the_allow_list_is_kept_at_the_command_line(bridge: Bridge) -> None:
    """Added, listed, replaced and removed; a check heeds it, and a complaint needs more."""
    added = bridge("allow", "add", "Example.org", "--actor", "bob", "--note", "our own")
    assert (added.exit_code, added.stdout) == (0, "example.org is allowed\n")
    assert bridge("check", "jane@example.org").exit_code == 0
    assert (
        bridge("allow", "add", "example.org", "--note", "our own").stdout
        == "example.org is allowed as before\n"
    )
    refused = bridge("allow", "add", "joe@mail.example.org", "--over-complaints")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert bridge("check", "joe@mail.example.org").exit_code == 3
    forced = bridge(
        "allow",
        "add",
        "joe@mail.example.org",
        "--over-complaints",
        "--override",
        "--note",
        "he asked",
        "--json",
    )
    assert (forced.exit_code, json.loads(forced.stdout)["created"]) == (0, True)
    assert bridge("check", "joe@mail.example.org").exit_code == 0
    listed = json.loads(bridge("allow", "list", "--limit", "1", "--json").stdout)
    assert (listed["total"], listed["next"]) == (2, "example.org")
    assert "joe@mail.example.org\tyes\t" in bridge("allow", "list", "--after", listed["next"]).stdout
    assert bridge("allow", "remove", "EXAMPLE.org").stdout == "example.org is no longer allowed\n"
    assert bridge("check", "jane@example.org").exit_code == 3
    gone = bridge("allow", "remove", "example.org", "--json")
    assert (gone.exit_code, gone.stdout, gone.stderr) == (
        1,
        "",
        "bridge: example.org is not on the allow-list\n",
    )
    assert bridge("allow", "add", "nobody").exit_code == 2
