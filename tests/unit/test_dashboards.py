"""The dashboards as they are shipped: what people read on them, what they ask of Prometheus, and how Grafana finds them."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import orjson
import pytest
import yaml

from config import make_secrets
from config.grafana import alerts
from config.grafana.__main__ import documents
from config.grafana.panels import WIDTH
from tests.docs import checks
from tests.docs.tables import ROOT, rows_of
from tests.support import dashboards
from tests.support.promtool import promtool, takes_promtool

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.dashboards import Panel

PANELS = list(dashboards.panels())
KINDS = {
    row[0].strip("`"): row[1]
    for row in rows_of((ROOT / "docs" / "reference" / "metrics.md").read_text("utf-8"))
}
"""Metric of the bridge -> counter, gauge or histogram."""


def documented() -> set[str]:
    """The names under which Prometheus has what docs/reference/metrics.md names."""
    ends = {"histogram": ("_bucket", "_sum", "_count")}
    return {f"{name}{end}" for name, kind in KINDS.items() for end in ends.get(kind, ("",))}


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel.name)
def test_a_panel_says_what_it_shows_and_what_to_do(panel: Panel) -> None:
    """Its title, what it means, in which unit, from where on it is bad; what it names of the product is there."""
    shown = panel.document
    assert re.fullmatch(r"[A-Z].+[^.:]", shown["title"])
    assert len(shown["description"]) > 60
    assert shown["fieldConfig"]["defaults"]["unit"]
    assert shown["fieldConfig"]["defaults"]["thresholds"]["steps"]
    page = ROOT / "docs" / "as if one of these.md"
    assert list(checks.of_page(page, shown["description"])) == []
    [link] = shown["links"]
    assert link["title"] == "Runbook"
    target = link["url"].removeprefix("${docs}/")
    assert target != link["url"]
    assert list(checks.of_page(page, f"[it]({target})")) == []


def test_every_panel_asks_for_metrics_that_are_documented() -> None:
    """Under the names that Prometheus makes of them."""
    named = {metric for panel in PANELS for query in panel.queries for metric in dashboards.metrics_in(query)}
    assert {metric for metric in named if metric.startswith("bridge_")} <= documented()


def test_no_two_panels_of_a_dashboard_have_one_title_or_overlap() -> None:
    """Each stands within the grid, and each row of panels is full."""
    for file in dashboards.FILES:
        shown = [panel.document for panel in PANELS if panel.board == file.name]
        assert len(shown) == len({one["title"] for one in shown}) == len({one["id"] for one in shown})
        taken: set[tuple[int, int]] = set()
        for place in (one["gridPos"] for one in dashboards.document(file.name)["panels"]):
            cells = {
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            }
            assert not cells & taken
            taken |= cells
        assert max(x for x, _ in taken) < WIDTH
        assert len(taken) == WIDTH * (1 + max(y for _, y in taken))


def test_the_four_questions_come_first_and_what_to_do_below_them() -> None:
    """On the page that Grafana opens with; the alert's own description is the answer to what to do."""
    first = [panel.document for panel in PANELS if panel.board == "overview.json"]
    assert [one["title"] for one in first[:4]] == [
        "Is anything lost?",
        "Is anything late?",
        "Is anything stuck?",
        "Is anything wrong?",
    ]
    assert {one["gridPos"]["y"] for one in first[:4]} == {0}
    assert first[4]["title"] == "What is wrong, since when, and what to do"
    texts = orjson.dumps(first[4]["fieldConfig"]["overrides"]).decode()
    for name, what_to_do in alerts.descriptions().items():
        assert f'"{name}":{{"text":{orjson.dumps(what_to_do).decode()}' in texts


def test_every_alert_answers_one_of_the_four_questions() -> None:
    """Those that are named are there; the last question takes all others, also new ones."""
    rules = set(re.findall(r"- alert: (\w+)", alerts.RULES.read_text("utf-8")))
    assert set(alerts.descriptions()) == rules
    named = [*alerts.LOST, *alerts.LATE, *alerts.STUCK]
    assert len(named) == len(set(named))
    assert set(named) < rules
    *_, lost, late, stuck, wrong = [_answers(question, rules) for question in PANELS_OF_QUESTIONS]
    assert lost | late | stuck | wrong == rules
    assert len(lost) + len(late) + len(stuck) + len(wrong) == len(rules)


PANELS_OF_QUESTIONS = [panel for panel in PANELS if panel.board == "overview.json"][:4]


def _answers(question: Panel, rules: set[str]) -> set[str]:
    """The alerts that its query selects."""
    [query] = question.queries
    matchers = re.findall(r'alertname(=~|!~)"([^"]+)"', query.partition(" or ")[0])
    return {
        rule
        for rule in rules
        if all((re.fullmatch(pattern, rule) is not None) == (sign == "=~") for sign, pattern in matchers)
    }


LOADED = 'prometheus_rule_group_rules{rule_group="/etc/prometheus/alerts.yml;bridge"}'
STATES: dict[str, tuple[dict[str, str], list[int | None]]] = {
    "no alert fires": ({LOADED: "39"}, [0, 0, 0, 0]),
    "one is about to fire": (
        {LOADED: "39", 'ALERTS{alertname="BridgeRefusesEvents",alertstate="pending"}': "1"},
        [1, 0, 0, 0],
    ),
    "one that warns fires, and one that informs": (
        {
            LOADED: "39",
            'ALERTS{alertname="BridgeChangesWait",alertstate="firing",severity="warning"}': "1",
            'ALERTS{alertname="BridgeDependencyFailed",alertstate="firing",severity="info"}': "1",
        },
        [0, 2, 1, 0],
    ),
    "one of which the dashboard has never heard": (
        {LOADED: "39", 'ALERTS{alertname="BridgeOfTomorrow",alertstate="firing",severity="critical"}': "1"},
        [0, 0, 0, 2],
    ),
    "somebody else's": (
        {LOADED: "39", 'ALERTS{alertname="Watchdog",alertstate="firing"}': "1"},
        [0, 0, 0, 0],
    ),
    "Prometheus has no alerts": ({"up": "1"}, [None] * 4),
}
"""What is so -> the series that Prometheus has then, and what the questions are answered: 0 no, 1 perhaps, 2 yes."""


@takes_promtool
def test_the_four_questions_are_answered_as_the_alerts_are(tmp_path: Path) -> None:
    """And not at all where there are no alerts: no false comfort."""
    tests: list[dict[str, Any]] = [
        {
            "name": what,
            "interval": "15s",
            "input_series": [{"series": name, "values": value} for name, value in given.items()],
            "promql_expr_test": [
                {
                    "expr": question.queries[0],
                    "eval_time": "0s",
                    "exp_samples": [] if value is None else [{"labels": "{}", "value": value}],
                }
                for question, value in zip(PANELS_OF_QUESTIONS, expected, strict=True)
            ],
        }
        for what, (given, expected) in STATES.items()
    ]
    assert promtool(tests, tmp_path, rules=[]) == ""


def test_the_files_are_what_the_code_makes() -> None:
    """`make dashboards` has been run."""
    there = {file.name: file.read_text("utf-8") for file in dashboards.FILES}
    assert there == documents(), "make dashboards"


def test_a_file_that_was_edited_by_hand_is_found(tmp_path: Path) -> None:
    """By `make check`, which says how it is made again."""
    said = subprocess.run(
        [sys.executable, "-c", _CHECK_OF, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 1
    assert "make dashboards" in said.stderr


_CHECK_OF = (
    "import sys, pathlib, config.grafana.__main__ as main\n"
    "main.FOLDER = pathlib.Path(sys.argv.pop())\n"
    "sys.argv.append('--check')\n"
    "main.main()"
)


def test_grafana_finds_prometheus_and_the_dashboards_in_compose() -> None:
    """What is provisioned names services, ports and folders as docker-compose.yml has them; the first page is the overview."""
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
    grafana = compose["services"]["grafana"]
    folders = dict(volume.removesuffix(":ro").split(":") for volume in grafana["volumes"])
    provisioned = {
        kind: yaml.safe_load(
            (ROOT / _source_of(f"/etc/grafana/provisioning/{kind}", folders) / file).read_text()
        )
        for kind, file in (("datasources", "prometheus.yml"), ("dashboards", "bridge.yml"))
    }
    [source] = provisioned["datasources"]["datasources"]
    assert (source["url"], source["type"]) == ("http://prometheus:9090", "prometheus")
    assert set(compose["services"]["prometheus"]["networks"]) & set(grafana["networks"])
    scraping = yaml.safe_load((ROOT / "config" / "prometheus" / "prometheus.yml").read_text())["global"]
    assert source["jsonData"]["timeInterval"] == scraping["scrape_interval"]
    [provider] = provisioned["dashboards"]["providers"]
    assert _source_of(provider["options"]["path"], folders) == "./config/grafana/dashboards"
    home = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{provider['options']['path']}/overview.json"
    assert compose["services"]["prometheus"]["profiles"] == grafana["profiles"] == ["observability"]


def _source_of(target: str, folders: dict[str, str]) -> str:
    [source] = [source for source, there in folders.items() if there == target]
    return source


def test_grafanas_password_is_one_of_the_secrets(tmp_path: Path) -> None:
    """Made once, kept, and given to Grafana as a file."""
    make_secrets.make(tmp_path)
    password = (tmp_path / make_secrets.GRAFANA).read_text()
    make_secrets.make(tmp_path)
    assert (tmp_path / make_secrets.GRAFANA).read_text() == password
    grafana = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["services"]["grafana"]
    assert grafana["secrets"] == [make_secrets.GRAFANA]
    secret = grafana["environment"]["GF_SECURITY_ADMIN_PASSWORD__FILE"]
    assert secret == f"/run/secrets/{make_secrets.GRAFANA}"
