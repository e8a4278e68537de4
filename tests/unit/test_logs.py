"""What a role writes: one event a line, each with its action, on standard error."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from bridge.settings import Logs
from bridge.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    """Logging is the process's, and this process has other tests to run."""
    root, levels = logging.getLogger(), {}
    handlers, level = root.handlers[:], root.level
    for library in logs._NOISY_LIBRARIES:
        levels[library] = logging.getLogger(library).level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)
    for library, before in levels.items():
        logging.getLogger(library).setLevel(before)


def written(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """The events, from standard error; standard output is for what a command prints."""
    captured = capsys.readouterr()
    assert captured.out == ""
    return [json.loads(line) for line in captured.err.splitlines()]


def test_an_event_is_one_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    """With its words, level, time, room and action, and what else it tells."""
    logs.configure(Logs(format="json"))
    logs.logger("receiver").warning("two\nlines", action="receiver.test", port=5, name="ж")
    [event] = written(capsys)
    assert event.pop("timestamp").endswith("Z")
    assert event == {
        "message": "two\nlines",
        "level": "warning",
        "room": "receiver",
        "action": "receiver.test",
        "port": 5,
        "name": "ж",
    }


def test_without_a_terminal_it_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    """`auto` is for whoever reads: a container's log is read by a machine."""
    logs.configure(Logs(format="auto"))
    logs.logger("receiver").info("words", action="receiver.test")
    assert written(capsys)[0]["message"] == "words"


def test_people_get_a_line_without_json(capsys: pytest.CaptureFixture[str]) -> None:
    """`console` on request, also without a terminal; then without colours."""
    logs.configure(Logs(format="console"))
    logs.logger("receiver").info("words", action="receiver.test")
    [line] = capsys.readouterr().err.splitlines()
    assert "words" in line
    assert "action=receiver.test" in line
    assert "\x1b" not in line


def test_an_exception_stays_in_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A traceback is a field, not thirty lines that nobody can put together again."""
    logs.configure(Logs(format="json"))
    logs.logger("receiver").error("failed", action="receiver.failure", exc_info=ValueError("the reason"))
    [event] = written(capsys)
    assert "ValueError: the reason" in event["exception"]


def test_what_is_below_the_level_is_not_written(capsys: pytest.CaptureFixture[str]) -> None:
    """`logs.level` holds for our own events."""
    logs.configure(Logs(format="json", level="error"))
    logger = logs.logger("receiver")
    logger.info("no", action="receiver.test")
    logger.warning("no", action="receiver.test")
    logger.error("yes", action="receiver.test")
    assert [event["message"] for event in written(capsys)] == ["yes"]


def test_libraries_are_silent_unless_asked(capsys: pytest.CaptureFixture[str]) -> None:
    """A lost connection is one event of ours; at `debug` the libraries may tell their part, in our shape."""
    logs.configure(Logs(format="json"))
    logging.getLogger("aiormq.connection").error("with a traceback")
    assert written(capsys) == []
    logs.configure(Logs(format="json", level="debug"))
    logging.getLogger("aiormq.connection").error("with a traceback")
    [event] = written(capsys)
    assert (event["message"], event["level"]) == ("with a traceback", "error")


def test_other_libraries_speak_in_our_shape(capsys: pytest.CaptureFixture[str]) -> None:
    """What nobody expected is still one line that a machine can read."""
    logs.configure(Logs(format="json"))
    logging.getLogger("some.library").warning("mind %s", "this")
    [event] = written(capsys)
    assert (event["message"], event["level"]) == ("mind this", "warning")


def test_configuring_twice_writes_once(capsys: pytest.CaptureFixture[str]) -> None:
    """No event is written two times."""
    logs.configure(Logs(format="json"))
    logs.configure(Logs(format="json"))
    logs.logger("receiver").info("once", action="receiver.test")
    assert len(written(capsys)) == 1


@pytest.mark.parametrize(
    ("address", "masked"),
    [
        ("jane@example.org", "j***@example.org"),
        ("j@example.org", "j***@example.org"),
        ('"a@b"@example.org', '"***@example.org'),
        ("@example.org", "***@example.org"),
        ("ж@пример.рф", "ж***@пример.рф"),
    ],
)
def test_a_masked_address_tells_the_domain_and_a_letter(address: str, masked: str) -> None:
    """Enough to recognise it, too little to write to it."""
    assert logs.masked(address) == masked


def test_what_is_no_address_is_masked_whole() -> None:
    """Where there is no @, none of the text can be told to be a domain."""
    assert logs.masked("jane") == "***"
