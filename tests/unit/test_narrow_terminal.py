"""At 80 columns no command's output breaks within a word: neither a table, nor what the terminal would break itself."""

from __future__ import annotations

import asyncio
from array import array
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from bridge.broker.archive_selection import ArchiveSelection
from bridge.broker.management_views import Node
from bridge.cli import (
    columns,
    console,
    dead_letters_view,
    doctor,
    lists,
    main,
    policy,
    quarantine_view,
    replay,
    simulate,
    spool,
    status_view,
    suppressions_options,
)
from bridge.dead_letters.dead_letter_description import DeadLetter
from bridge.dead_letters.quarantine import QuarantinedBody
from bridge.development.load_driver import AnswerKind, LoadResult
from bridge.diagnostics.broker_status import BrokerStatus, QueueStatus
from bridge.diagnostics.counter_rates import EventAge
from bridge.diagnostics.finding import failed
from bridge.diagnostics.problems import Problem, ProblemKind
from bridge.diagnostics.role_status import RoleStatus
from bridge.diagnostics.status import AnswerCount, EventCount, Status
from bridge.diagnostics.subscriber_status import SubscriberStatus
from bridge.operations.archive_scan import ArchiveProgress
from bridge.operations.policy import DryRun
from bridge.operations.queue_messages import MessageList
from bridge.operations.replay import ReplayOrder
from bridge.spool.entries import SpoolEntry
from bridge.spool.set_aside_entries import Refusal, to_set_aside
from bridge.spool.spool_file import SpoolFile
from bridge.suppression.entries import Entry
from bridge.suppression.policy import Reason
from bridge.suppression.rehearsal import Difference
from bridge.suppression.store import Store
from bridge.suppression.suppressing_events import SuppressingEvent
from tests.support.manual import every_command

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

WIDTH = 80
AT = 1_539_062_173
NOW = AT * 1000
ID = "5f2b6c0d9e8a7f6b5c4d3e2f1a0b9c8d"
ADDRESS = "jane.with-a-rather-long-name@newsletters.example.org"
REFUSAL = "PRECONDITION_FAILED - inequivalent arg 'x-dead-letter-exchange' for queue 'production.suppression.retry.30s'"
NOTE = "subscribed again on 2 May, by telephone with customer-service, see https://tickets.example.org/4711"
URL = "http://bridge-receiver-0.bridge.svc.cluster.local:8090"
QUEUE = "production.email.events.archive"
"""Values as they come in production."""

NO_TABLE = {
    ("receiver",): "logs",
    ("worker",): "logs",
    ("simulator",): "logs",
    ("api",): "logs",
    ("dev",): "lines as they come",
    ("tail",): "lines as they come",
    ("webhook", "show"): "one line",
    ("webhook", "enable"): "one line",
    ("webhook", "disable"): "one line",
    ("subscribers", "add"): "lines",
    ("subscribers", "remove"): "one line",
    ("contract", "check"): "a line for each change",
    ("contract", "export"): "one line",
    ("topology", "apply"): "one line",
    ("topology", "export"): "JSON",
    ("suppressions", "add"): "one line",
    ("suppressions", "remove"): "one line",
    ("db", "upgrade"): "one line",
    ("db", "grant"): "one line",
    ("db", "vacuum"): "one line",
    ("suppressions", "allow", "add"): "one line",
    ("suppressions", "allow", "remove"): "one line",
    ("suppressions", "hash"): "one line",
    ("suppressions", "erase"): "lines",
    ("suppressions", "import"): "lines",
    ("suppressions", "export"): "one line",
    ("db", "status"): "one line",
    ("spool", "drain"): "a line for each file",
    ("dead", "show"): "a message as it is",
    ("quarantine", "show"): "a message as it is",
    ("dead", "restore"): "one line",
    ("quarantine", "restore"): "one line",
}
"""Commands without a table, and what they print."""


def letters() -> MessageList[DeadLetter]:
    kinds = (
        ("hard_bounced", "unknown-message"),
        ("unsubscribed", "delivery_limit"),
        ("complained", "malformed"),
    )
    found = [DeadLetter(ID, event, reason, "", 1234, NOW - 93_784_000, None, "") for event, reason in kinds]
    return MessageList(found, 3, 3)


def bodies() -> MessageList[QuarantinedBody]:
    reasons = ("event.timestamp is not a time: 'yesterday-at-noon'", "message.id is missing")
    found = [QuarantinedBody(ID, reason, "hard_bounced", "", NOW - 93_784_000, 123_456) for reason in reasons]
    return MessageList(found, 2, 2)


def show_letters(_: Path) -> None:
    dead_letters_view.DEAD_LETTERS.print_list(letters().messages, NOW)


def count_letters(_: Path) -> None:
    dead_letters_view.DEAD_LETTERS.print_counts(letters(), "to be replayed")


def show_bodies(_: Path) -> None:
    quarantine_view.QUARANTINE.print_list(bodies().messages, NOW)


def count_bodies(_: Path) -> None:
    quarantine_view.QUARANTINE.print_counts(bodies(), "to be discarded")


def show_replayed(_: Path) -> None:
    progress = ArchiveProgress(
        scanned=12_345, selected=Counter({"hard_bounced": 1200, "unsubscribed": 7}), next=7
    )
    replay._print_result(ReplayOrder(ArchiveSelection(), QUEUE), progress, as_json=False, finished=True)


def show_tried(_: Path) -> None:
    entry = Entry(
        ADDRESS, Reason.SOFT_BOUNCE, ADDRESS, NOW, 1_700_000_000, 1234, "1", None, NOW, NOW, 1_700_259_200
    )
    policy._print(DryRun(used=12_345, unknown=7), Difference(added=[entry], gone=[entry]))


def show_simulated(_: Path) -> None:
    result = LoadResult()
    result.seconds[AnswerKind("200", "confirmed")] = array("d", [0.001, 0.012])
    result.seconds[AnswerKind("-", "ServerDisconnectedError")] = array("d", [0.5])
    simulate._print_result(result, as_json=False)


def show_findings(_: Path) -> None:
    advice = "delete the queue when it is empty, and run `bridge topology apply` as a user who may configure"
    doctor._print([failed("topology", REFUSAL, advice), failed("rabbitmq-permissions", NOTE, advice)])


def show_status(_: Path) -> None:
    queues = tuple(QueueStatus(name, ready=1, unacknowledged=123_456, consumers=12) for name in (QUEUE, "a"))
    seen = Status(
        at=AT,
        roles=(
            RoleStatus(URL, kind="receiver", ready=True),
            RoleStatus(URL.replace("receiver", "worker"), problem="ClientConnectorDNSError: Name not known"),
        ),
        events=(EventCount("hard_bounced", 123_456_789, 1234.5),),
        answers=(AnswerCount("confirmed", 123_456_789, 1234.5), AnswerCount("503", 123_456, 12.5)),
        age=EventAge(0.5, 1234.5, 0.5),
        broker=BrokerStatus(
            "", "4.0.5", (Node("rabbit@node-0.example.org", running=True, alarms=()),) * 3, "", queues
        ),
        spool=None,
        workers=1,
        dead_letters=3,
        dead_by_reason={"unknown-message": 1, "delivery_limit": 2, "insufficient-information": 3},
        quarantined=0,
        subscribers=(
            SubscriberStatus(f"{QUEUE}.of-a-service", "d", True, 123_456, 1000, 12, 3, 93_784.0, 93_784.0),  # noqa: FBT003 -- `there`
        ),
        breakers={"database": 0.0, "provider": 1.0},
        problems=(Problem(ProblemKind.QUEUE_MISSING, QUEUE, f"{QUEUE}: {REFUSAL}"),),
        unseen=("bindings, nodes, alarms, unacknowledged messages and their ages: no answer in time",),
    )
    console.terminal.print(status_view.status_view(seen))


def run(*arguments: str, **variables: str) -> Callable[[Path], None]:
    """A command that needs nothing but files."""

    def shown(folder: Path) -> None:
        environment = {
            "BRIDGE_SUPPRESSION__DATABASE_URL": f"sqlite+aiosqlite:///{folder}/list.sqlite3",
            "BRIDGE_SPOOL__DIRECTORY": str(folder),
            "BRIDGE_RABBITMQ__PREFIX": "production.",
            **variables,
        }
        outcome = CliRunner(env=environment).invoke(main.app, arguments)
        assert not outcome.exception or isinstance(outcome.exception, SystemExit)
        print(outcome.stdout)  # noqa: T201 -- into what the test reads

    return shown


async def fill_list(folder: Path) -> None:
    async with Store.open(f"sqlite+aiosqlite:///{folder}/list.sqlite3") as store:
        for event_id, address in (("other", "jane@example.org"), (ID, ADDRESS)):
            await store.record(
                [SuppressingEvent(address, Reason.HARD_BOUNCE, event_id, AT, "4711-8899", b"")], actor="w"
            )
            await store.add(address, actor="caroline.long-surname", note=NOTE)
        await store.allow_list.put("sub.newsletters.example.org", actor="caroline.long-surname", note=NOTE)


def fill_spool(folder: Path) -> None:
    file = SpoolFile(folder / "spool-0.sqlite3", min_free_bytes=0)
    file.write([SpoolEntry(1, NOW, b"{}")], ())
    file.run_task(to_set_aside(Refusal("forbidden", "unsubscribed", REFUSAL), (1,)))
    file.close()
    (folder / "spool-1.sqlite3").write_bytes(b"garbage!" * 2000)


CASES: dict[tuple[str, ...], tuple[Callable[[Path], None], str]] = {
    ("dead", "list"): (show_letters, f"{ID} unknown-message delivery_limit hard_bounced unsubscribed 1,234"),
    ("dead", "replay"): (count_letters, "unknown-message delivery_limit hard_bounced unsubscribed"),
    ("dead", "discard"): (count_letters, "unknown-message delivery_limit hard_bounced unsubscribed"),
    ("quarantine", "list"): (show_bodies, f"{ID} event.timestamp 'yesterday-at-noon' missing hard_bounced"),
    ("quarantine", "replay"): (count_bodies, "event.timestamp 'yesterday-at-noon' missing hard_bounced"),
    ("quarantine", "discard"): (count_bodies, "event.timestamp 'yesterday-at-noon' missing hard_bounced"),
    ("replay",): (show_replayed, "hard_bounced unsubscribed 1,200"),
    ("policy", "dry-run"): (show_tried, f"{ADDRESS} soft_bounce 1,234 2023-11-14 would added 22:13:20"),
    ("simulate",): (show_simulated, "ServerDisconnectedError confirmed"),
    ("doctor",): (show_findings, f"{REFUSAL} {NOTE} `bridge topology apply` configure"),
    ("status",): (show_status, f"{REFUSAL} {URL} {QUEUE} ClientConnectorDNSError insufficient-information 123,456,789"),
    ("topology", "plan"): (run("topology", "plan", "--offline"), f"{QUEUE} x-dead-letter-strategy=at-least-once production.suppression"),
    ("subscribers", "list"): (
        run("subscribers", "list", BRIDGE_SUBSCRIBERS='[{"queue": "customer-relations", "events": ["hard_bounced"], "max_length": 1000000}]'),
        "customer-relations hard_bounced max_length 1000000 settings",
    ),
    ("config", "show"): (run("config", "show"), "BRIDGE_SUPPRESSION__DATABASE_URL suppression.database_url"),
    ("spool", "status"): (run("spool", "status"), f"spool-0.sqlite3 spool-1.sqlite3 unsubscribed {REFUSAL}"),
    ("suppressions", "list"): (run("suppressions", "list"), f"{ADDRESS} jane@example.org hard_bounce 2018-10-09"),
    ("suppressions", "check"): (run("suppressions", "check", "jane@example.org"), "jane@example.org hard_bounce 05:16:13"),
    ("suppressions", "keys"): (run("suppressions", "keys"), "(plain text) Entries Changes"),
    ("suppressions", "allow", "list"): (
        run("suppressions", "allow", "list"), f"sub.newsletters.example.org caroline.long-surname {NOTE}"
    ),
    ("suppressions", "history"): (run("suppressions", "history", ADDRESS), f"{NOTE} {ID} caroline.long-surname 4711-8899"),
}  # fmt: skip
"""Command -> how its table is printed, and words that must be in it unbroken."""


def test_every_command_has_a_case() -> None:
    """Whoever adds a command with a table adds it here."""
    assert {one.path for one in every_command() if not one.is_group} == CASES.keys() | NO_TABLE.keys()
    assert not CASES.keys() & NO_TABLE.keys()


@pytest.mark.parametrize("command", CASES, ids=" ".join)
def test_no_word_is_broken(
    command: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Lines end between words, or behind a hyphen and the like; and no line is left for the terminal to break."""
    for module in (lists, doctor, spool, suppressions_options):
        monkeypatch.setattr(module, "on_terminal", lambda: True)
    monkeypatch.setattr(console.terminal, "_width", WIDTH)
    if command[0] in {"suppressions", "subscribers"}:
        asyncio.run(fill_list(tmp_path))
    if command[0] == "spool":
        fill_spool(tmp_path)
    capsys.readouterr()
    show, words = CASES[command]
    show(tmp_path)
    said = capsys.readouterr().out
    assert not [line for line in said.splitlines() if len(line) > WIDTH]
    broken = [word for word in words.split() if word not in said]
    assert not [part for word in broken for part in columns._PARTS.split(word) if part not in said]


@pytest.mark.parametrize(
    ("text", "width", "lines"),
    [
        ("not a time", 80, ["not a time"]),
        ("not a time", 5, ["not a", "time"]),
        ("hard_bounced", 8, ["hard_bounced"]),
        ("an unknown-message", 9, ["an", "unknown-", "message"]),
        ("", 5, [""]),
    ],
)
def test_lines_end_between_words(text: str, width: int, lines: list[str]) -> None:
    """What cannot be broken stays whole."""
    assert columns.wrap(text, width) == lines
