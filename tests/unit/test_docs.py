"""The pages written by hand say what the code says, and `make docs-check` sees what points nowhere."""

from __future__ import annotations

import ast
import re

import pytest

from bridge import events
from bridge.broker import forwarded_properties, messages
from bridge.dead_letters import dead_letter_queue, delay_queues
from bridge.dead_letters.failure_reasons import REASONS
from bridge.receiver import answers
from bridge.settings import sections
from tests.docs import checks, pages
from tests.docs.tables import ROOT, rows_of

PAGE = ROOT / "docs" / "page.md"
REFERENCE = ROOT / "docs" / "reference"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("see [there](nowhere.md)", "points to no file"),
        ("see [there](operate.md#nothing)", "points to no heading"),
        ("see [there](#nothing)", "points to no heading"),
        ("```sh\nbridge suppression list\n```\n", "no command `bridge suppression`"),
        ("```sh\n.venv/bin/bridge --config x dead list --every\n```\n", "has no option --every"),
        ("```sh\nA=b docker compose run --rm bridge dead lists\n```\n", "no command `bridge dead lists`"),
        ("```console\n$ bridge tail --since 1h\nbridge nothing\n```\n", "has no option --since"),
        ("```sh\nmake all-of-it ARGS=x | cat\n```\n", "no target for `make all-of-it`"),
        ("run `bridge spool empty` at once", "no command `bridge spool empty`"),
        ("set `BRIDGE_RECEIVER__TOKEN`", "no variable is called BRIDGE_RECEIVER__TOKEN"),
        ("set `receiver.patience`", "`receiver.patience` is no setting"),
        ("the log has `worker.neighbour`", "`worker.neighbour` is no setting, no log action"),
        ("see `bridge_letters_total`", "no metric is called bridge_letters_total"),
        ("see `bridge/worker/nothing.py`", "there is no bridge/worker/nothing.py"),
        ("| `bridge_build_info` | gauge | ? | | new |\n", "is to be written"),
    ],
)
def test_what_points_nowhere_is_one_problem(text: str, problem: str) -> None:
    """Each kind, in one line that names it."""
    (found,) = checks.of_page(PAGE, text)
    assert problem in found


@pytest.mark.parametrize(
    "text",
    [
        "[there](operate.md#the-spool), [here](#a-heading-its-end) and [out](https://example.org/x#y)\n\n## A heading: its end",
        "`[no](link.md)`\n```text\n[no](link.md)\nbridge nothing\n```\n",
        "```sh\nbridge suppressions remove a@example.org --reason complaint; make check && bridge dev --port 0\n```\n",
        "`bridge suppressions check ADDRESS`, `bridge dead`, `BRIDGE_PROVIDER__API_TOKEN_FILE`, `worker.prefetch`",
        "`suppression.outdated`, `worker.pause`, `suppression.retry.30s`, `bridge_build_info`, `spool/`",
    ],
)
def test_what_is_there_is_no_problem(text: str) -> None:
    """Also what only looks like something that is not there."""
    assert list(checks.of_page(PAGE, text)) == []


def test_what_is_made_is_made_the_same_again() -> None:
    """What a person has written into a table stays, so that only a change of the code makes a page stale."""
    for path, text in pages.made().items():
        assert text.count("<!-- made by") == text.count("<!-- to here") >= 1
        assert pages.with_table(text, path) == text


def test_the_page_of_messages_has_every_header_and_every_reason() -> None:
    """Of events, quarantine, delay queues and dead letters: what consumers and operators filter by."""
    text = (REFERENCE / "messages.md").read_text()
    properties = messages._properties(events.COMPLAINED, "", "", "")
    headers = {messages.REASON_HEADER, forwarded_properties.RAW_HEADER, *(properties.headers or {})}
    headers |= {
        value
        for module in (dead_letter_queue, delay_queues)
        for name, value in vars(module).items()
        if name.endswith("_HEADER")
    }
    reasons = set(REASONS)
    named = set(re.findall(r"`([^`\s]+)`", text))
    assert headers | reasons | events.KNOWN_NAMES <= named


def test_the_page_for_on_call_says_what_to_do_for_each_reason() -> None:
    """Whoever finds a dead letter finds its reason there."""
    reasons = set(REASONS)
    cells = [row[0] for row in rows_of((ROOT / "docs" / "operate.md").read_text())]
    assert reasons <= {reason for cell in cells for reason in re.findall(r"`([^`]+)`", cell)}


def test_the_page_of_answers_has_every_status() -> None:
    """Those that the metrics count, and the two durabilities."""
    text = (REFERENCE / "answers.md").read_text()
    statuses = {label for label in answers.EXPECTED_LABELS if label.isdecimal()}
    assert statuses == set(re.findall(r"^\| .* \| (\d{3})", text, re.MULTILINE)) - {"200"}
    assert {answers.CONFIRMED, answers.SPOOLED, answers.QUARANTINED} <= set(re.findall(r'"(\w+)"', text))


def test_no_page_leaves_out_a_setting() -> None:
    """The page of the settings has each, and `config/bridge.toml` explains each."""
    rows = rows_of((REFERENCE / "settings.md").read_text())
    assert {knob.key for knob in sections.setting_names()} <= {row[0].strip("`") for row in rows}
    assert all(row[-1] for row in rows)


def test_the_figures_of_performance_are_those_of_the_benchmark() -> None:
    """Each table that `make bench` wrote stands in the page as it is."""
    measured = (ROOT / "tests" / "programs" / "bench" / "results.md").read_text().splitlines()
    shown = (ROOT / "docs" / "performance.md").read_text().splitlines()
    assert set(filter(lambda line: line.startswith("|"), measured)) <= set(shown)


def test_the_figures_of_the_readme_can_be_derived() -> None:
    """Of the comparison: the events/s from the benchmark, and the lines of code as `wc -l` counts them, within a tenth."""
    readme = (ROOT / "README.md").read_text()
    results = (ROOT / "tests" / "programs" / "bench" / "results.md").read_text()
    ratio = {
        name: cells.split(" | ")[5]
        for name, cells in re.findall(r"^\| ([^|]+) \| (.+us.+) \|$", results, re.MULTILINE)
        if cells.count("|") == 8
    }
    ours, theirs, fastify = (
        ratio["bridge confirmed"],
        f"{ratio['naive aio-pika']} and {ratio['FastAPI + FastStream']}",
        ratio["Fastify + rabbitmq-client"],
    )
    assert f"| {ours} | {theirs} | {fastify} |" in readme
    (said,) = re.findall(r"\| ([\d,]+) lines of Python", readme)
    counted = sum(path.read_text().count("\n") for path in (ROOT / "bridge").rglob("*.py"))
    assert abs(int(said.replace(",", "")) - counted) < counted / 10


def test_the_page_for_on_call_explains_each_problem_of_the_spool() -> None:
    """Every warning and error that the spool can log has a row, which says what to do."""
    logged = {
        keyword.value.value
        for module in (ROOT / "bridge" / "spool").glob("*.py")
        for call in ast.walk(ast.parse(module.read_text()))
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr in {"warning", "error"}
        for keyword in call.keywords
        if keyword.arg == "action" and isinstance(keyword.value, ast.Constant)
    }
    explained = {
        action
        for row in rows_of((ROOT / "docs" / "operate.md").read_text())
        for action in re.findall(r"`([^`]+)`", row[0])
    }
    assert "spool.lost" in logged
    assert logged <= explained
