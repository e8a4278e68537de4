"""What a role writes: one event a line, each with its action, on standard error."""

from __future__ import annotations

import ast
import json
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

import bridge
from bridge.settings.list_sections import Suppression
from bridge.settings.sections import Logs, Provider, RabbitMQ, Receiver, Settings
from bridge.telemetry import logs, scrubbing

if TYPE_CHECKING:
    from collections.abc import Iterator


SOURCES = sorted(Path(bridge.__file__).parent.rglob("*.py"))
LEVELS = {"debug", "info", "warning", "error", "critical", "exception"}
SECRET = "s3cret-and-long"
TIME = r"\d{4}-\d\d-\d\dT[\d:.]+Z"


def written(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """The events, from standard error; standard output is for what a command prints."""
    captured = capsys.readouterr()
    assert captured.out == ""
    return [json.loads(line) for line in captured.err.splitlines()]


def test_an_event_is_one_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    """With its message, level, time, logger and action, and further fields."""
    logs.configure(Logs(format="json"))
    logs.logger("receiver").warning("two\nlines", action="receiver.test", port=5, name="ж")
    [event] = written(capsys)
    assert event.pop("timestamp").endswith("Z")
    assert event == {
        "message": "two\nlines",
        "level": "warning",
        "logger": "receiver",
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
    assert (event["action"], event["logger"]) == ("library", "some.library")


def test_every_line_of_ours_has_an_action() -> None:
    """A subject, a dot and what happened: without it nobody can search for it."""
    calls = [(path, call) for path in SOURCES for call in _logging_calls(ast.parse(path.read_text()))]
    assert len(calls) > 40, "the search finds no calls"
    for path, call in calls:
        [action] = [keyword.value for keyword in call.keywords if keyword.arg == "action"]
        where = f"{path.name}:{call.lineno}"
        if isinstance(action, ast.Constant):
            assert re.fullmatch(r"[a-z_]+\.[a-z_]+", str(action.value)), where
        else:
            # What a caller gives, or made of an outcome.
            assert isinstance(action, ast.Name | ast.JoinedStr), where


def test_each_logger_is_named_after_its_package() -> None:
    """Who reads `logger` in a line finds the code that wrote it."""
    named = {
        path: re.findall(r'logs\.logger\("([^"]+)"\)', path.read_text())
        for path in SOURCES
        if path.parent.name != "bridge"
    }
    assert sum(map(len, named.values())) > 40, "the search finds no loggers"
    for path, names in named.items():
        package = path.parts[path.parts.index("bridge") + 1]
        assert set(names) <= {package}, path


def _logging_calls(tree: ast.AST) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner, name = node.func.value, node.func.attr
            ours = isinstance(owner, ast.Name) and owner.id in {"log", "tell"}
            if (name in LEVELS and ours) or name == "_trace":
                yield node


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
    assert scrubbing.masked(address) == masked


def test_what_is_no_address_is_masked_whole() -> None:
    """Where there is no @, none of the text can be told to be a domain."""
    assert scrubbing.masked("jane") == "***"


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (
            "Key (address)=(jane@example.org) already exists",
            "Key (address)=(j***@example.org) already exists",
        ),
        ("[parameters: ('jane@example.org', 'x')]", "[parameters: ('j***@example.org', 'x')]"),
        ('{"to":"jane+news@example.org"}', '{"to":"j***@example.org"}'),
        ("<jane@example.org>, o'brien@example.org", "<j***@example.org>, o***@example.org"),
        ('"jane doe"@example.org', '"***@example.org'),
        ("ж@пример.рф: мёртв", "ж***@пример.рф: мёртв"),
        ("https://x.org/u?m=jane%40example.org", "https:/***%40example.org"),
        ("jane@[192.0.2.1]", "j***@[192.0.2.1]"),
        ("j***@example.org stays", "j***@example.org stays"),
        ("node rabbit@broker-1 is down", "node rabbit@broker-1 is down"),
        ("@contextmanager, 3 @ 4", "@contextmanager, 3 @ 4"),
    ],
)
def test_addresses_in_somebody_elses_words_are_masked(said: str, shown: str) -> None:
    """Whoever quotes them: a database, a provider, a traceback. More than the address may go, but none of it stays."""
    assert scrubbing.Scrubber().text(said) == shown
    assert scrubbing.Scrubber(mask_addresses=False).text(said) == said


@given(
    local=st.text("abcdefghij.+_-='/!#$%&?^`{|}~", min_size=3),
    around=st.sampled_from(["{}", "({})", "<{}>", '"{}"', "'{}'", "to={}", "x: {}, y", "\n{}\n", "[{}]"]),
)
def test_of_no_address_more_than_a_letter_is_shown(local: str, around: str) -> None:
    """Whatever RFC 5322 allows in one, and whatever stands around it."""
    shown = scrubbing.Scrubber().text(around.format(f"{local}@example.org"))
    assert local not in shown
    assert "***@example.org" in shown


@pytest.mark.parametrize(
    "said",
    [
        "amqp://guest:{}@127.0.0.1:5672/ refuses",
        "postgresql+asyncpg://bridge:{}@db/bridge",
        "postgresql://bridge:p@ss{}@db/bridge",
        "redis://{}@cache",
        "POST /webhooks/msndr/{} HTTP/1.1",
        "Authorization: Bearer {}",
        "authorization: basic {}",
        "host=db password='{}' user=bridge",
        "?user=bridge&password={}&sslmode=require",
    ],
)
def test_what_stands_where_a_secret_stands_is_hidden(said: str) -> None:
    """Also one that is not among our settings: the old token, or somebody else's password."""
    assert SECRET not in scrubbing.Scrubber(mask_addresses=False).text(said.format(SECRET.replace("-", "")))
    assert "s3cret" not in scrubbing.without_secrets(said.format(SECRET.replace("-", "")))


def test_the_secrets_of_the_settings_are_hidden_wherever_they_stand(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In any value, however deep, in an exception, in a library's line; as they are written in a URL, too."""
    token, password, key, database = "webhook-token-0123456789", "p@ss/word", "api-token-9876", "db:pass@word"
    settings = Settings(
        receiver=Receiver(tokens=(SecretStr(token),)),
        rabbitmq=RabbitMQ(urls=(SecretStr("amqp://bridge:p%40ss%2Fword@broker/"),)),
        provider=Provider(api_token=SecretStr(key)),
        suppression=Suppression(database_url=SecretStr(f"postgresql+asyncpg://bridge:{database}@db/bridge")),
        logs=Logs(format="json"),
    )
    logs.configure(settings.logs, secrets=scrubbing.secrets_of(settings))
    log = logs.logger("receiver")
    log.warning(token, action="receiver.test", deep={"list": [f"<{password}>", (key, 5)]}, odd=Path(key))
    log.error("failed", action="receiver.test", exc_info=ValueError(f"{database} and p%40ss%2Fword"))
    logging.getLogger("some.library").warning("has %s", key)
    lines = capsys.readouterr().err
    assert len(lines.splitlines()) == 3
    for secret in (token, password, "p%40ss%2Fword", key, database):
        assert secret not in lines


def test_the_name_guest_is_no_secret() -> None:
    """RabbitMQ's own user has its name as its password: to hide it would hide who was refused."""
    assert scrubbing.secrets_of(Settings()) == frozenset()


def test_numbers_and_nothing_stay_what_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    """A machine that reads the lines counts with them; also one beyond 64 bits, or a text that is no Unicode."""
    logs.configure(Logs(format="json"))
    logs.logger("x").info("words", action="x.test", none=None, yes=True, half=0.5, vast=2**70, lone="\ud800")
    [event] = written(capsys)
    assert (event["none"], event["yes"], event["half"], event["vast"]) == (None, True, 0.5, 2**70)
    assert event["lone"] == "\ud800"


def test_people_get_tracebacks_with_nothing_in_them_to_hide(capsys: pytest.CaptureFixture[str]) -> None:
    """In a terminal, too."""
    logs.configure(Logs(format="console"), secrets=[SECRET])
    logs.logger("x").error("failed", action="x.test", exc_info=ValueError(f"{SECRET} of jane@example.org"))
    said = capsys.readouterr().err
    assert "ValueError: *** of j***@example.org" in said


def test_a_room_traces_each_event_only_where_that_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    """Where it is not, there is nothing to call: a line that is not written must cost nothing."""
    logs.configure(Logs(format="json"))
    assert logs.tracer(logs.logger("receiver")) is None
    logs.configure(Logs(format="json", level="debug"))
    trace = logs.tracer(logs.logger("receiver"))
    assert trace is not None
    trace("an event", action="receiver.test", event_id="1")
    assert written(capsys)[0]["event_id"] == "1"


@pytest.mark.parametrize("style", ["json", "console"])
def test_no_line_steers_a_terminal(capsys: pytest.CaptureFixture[str], style: Any) -> None:
    """Lines are read with `docker logs` and `tail -f`, and quote what others have written."""
    logs.configure(Logs(format=style))
    error = ValueError("\x1b[31m\x9b1m\u202e")
    logs.logger("x").error(
        "\x1b]0;x\x07\x7f", action="x.test", reason="a\x9b\u2066\nfake: line", exc_info=error
    )
    written_lines = capsys.readouterr().err
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", written_lines)
    assert "\nfake" not in written_lines


MANY: list[dict[str, Any]] = [
    {"event": "suppressed", "action": "worker.test", "address": "j***@example.org", "reason": "complaint"},
    {"event": "with jane@example.org in it", "action": "worker.test", "address": "j***@example.org"},
    {"event": f"a {SECRET}", "action": "worker.test", "number": 5, "none": None, "names": ["ж", SECRET]},
    {"event": "\x7f\u202e and \ud800", "action": "worker.test", "number": 2**70},
]


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize("events", [MANY, MANY[:1], []])
def test_many_events_at_once_are_the_lines_that_each_would_be(
    capsys: pytest.CaptureFixture[str], form: Any, events: list[dict[str, Any]]
) -> None:
    """With secrets and addresses hidden, nothing that steers a terminal, and the fields of the process."""
    logs.configure(Logs(format=form), secrets=(SECRET,))
    with structlog.contextvars.bound_contextvars(process=3):
        for fields in events:
            logs.logger("worker").info(**fields)
        expected = re.sub(TIME, "", capsys.readouterr().err)
        logs.info_many("worker", iter(events))
    assert re.sub(TIME, "", capsys.readouterr().err) == expected
    assert expected.count("\n") == len(events)
    assert SECRET not in expected


def test_many_events_are_not_even_made_where_their_level_is_not_logged(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Their fields are read only to be written."""
    logs.configure(Logs(format="json", level="warning"))
    fields = iter(MANY)
    logs.info_many("worker", fields)
    assert list(fields) == MANY
    assert capsys.readouterr().err == ""


def test_many_events_can_be_captured_like_each(capsys: pytest.CaptureFixture[str]) -> None:
    """Who takes events before they are lines gets these, too."""
    logs.configure(Logs(format="json"))
    with structlog.testing.capture_logs() as captured:
        logs.info_many("worker", MANY)
    assert [one["event"] for one in captured] == [one["event"] for one in MANY]
    assert capsys.readouterr().err == ""
