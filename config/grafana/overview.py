"""Overview: the four questions, the alerts that answer them, and the way of an event."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from grafana_foundation_sdk.models import units

from config.grafana.alerts import LATE, LOST, STUCK, descriptions
from config.grafana.boards import Board
from config.grafana.panels import (
    COUNT,
    GREEN,
    PER_SECOND,
    QUARTER,
    RED,
    SECONDS,
    YELLOW,
    About,
    Column,
    Query,
    figure,
    rows,
    series,
    timeline,
)
from config.grafana.promql import in_queue, quantile, rate

if TYPE_CHECKING:
    from config.grafana.panels import Made

_START: Final = "operate.md#when-something-is-wrong"
_AGE: Final = "bridge_event_age_seconds"
_ANSWERS: Final = {"0": ("No", GREEN), "1": ("Perhaps", YELLOW), "2": ("Yes", RED)}
_LOADED: Final = '0 * max(prometheus_rule_group_rules{rule_group=~".*;bridge.*"})'
"""0 where Prometheus has the alerts, and nothing where it has them not: then no question has an answer."""


def overview() -> Board:
    return Board(
        uid="bridge-overview",
        title="Bridge: overview",
        says="Is anything lost, late, stuck or wrong? And if so, since when, and what is to be done.",
        rows=[("", _questions()), ("", [_alerts()]), ("", _evidence()), ("Flow", _flow())],
    )


def _questions() -> list[Made]:
    others = _named(*LOST, *LATE, *STUCK)
    return [
        _question(
            "Is anything lost?",
            "Yes: events were answered 503, none come, no receiver answers, or the spool is about to refuse them. Whether the provider "
            "sends an event again that was not answered 200 is up to the provider. Do what the table below says, first of all.",
            _named(*LOST),
        ),
        _question(
            "Is anything late?",
            "Yes: events or changes wait for longer than they should; nothing is lost by that. While an event waits, a check of the "
            "list may miss it. The table says what waits where.",
            _named(*LATE),
        ),
        _question(
            "Is anything stuck?",
            "Yes: a part does not work off what it has: it is away, hangs, or waits for a dependency. What it would have done waits. "
            "The table says which part, and for what.",
            _named(*STUCK),
        ),
        _question(
            "Is anything wrong?",
            "Yes: something needs a person who looks at it, such as dead letters, bodies in the quarantine, queues that reject, "
            "or answers 5xx of the API. The table says what.",
            f'alertname=~"Bridge.*",{others.replace("=~", "!~")}',
        ),
    ]


def _named(*alerts: str) -> str:
    return f'alertname=~"{"|".join(alerts)}"'


def _question(title: str, says: str, alerts: str) -> Made:
    """2 while an alert fires, 1 while one is about to or only informs, 0 while none does, and nothing without alerts."""
    firing = f'ALERTS{{{alerts},alertstate="firing",severity!="info"}}'
    return figure(
        About(title, f"{says} Perhaps: an alert is about to fire, or only informs of a restart.", _START),
        Query(f"max(2 * {firing} or ALERTS{{{alerts}}}) or {_LOADED}"),
        unit=COUNT,
        states=_ANSWERS,
        no_value="Unknown: Prometheus has no alerts.yml",
    )


def _alerts() -> Made:
    firing = 'ALERTS{alertname=~"Bridge.*",alertstate="firing"}'
    since = f'1000 * ALERTS_FOR_STATE{{alertname=~"Bridge.*"}} and ignoring(alertstate) {firing}'
    return rows(
        About(
            "What is wrong, since when, and what to do",
            "The alerts that fire, from config/prometheus/alerts.yml. Empty is good, as long as the questions above have an "
            "answer. The other columns say which queue, role or reason it is about.",
            _START,
        ),
        Query(f'label_replace({since}, "todo", "$1", "alertname", "(.+)")'),
        columns=[
            Column("alertname", "Alert", width=230),
            Column("severity", "Severity", width=90),
            Column("Value", "Since", unit=units.DateTimeFromNow, width=150),
            Column("todo", "What to do", texts=descriptions()),
        ],
        hidden=["alertstate"],
        no_value="No alert fires",
        height=6,
    )


def _evidence() -> list[Made]:
    return [
        series(
            About(
                "Events answered 503",
                "Events that neither RabbitMQ nor the spool took. Every one may be lost. See `/readyz` of the receivers: bring RabbitMQ "
                "back, or free space for the spool.",
                "operate.md#the-spool",
            ),
            Query(rate("bridge_answers_total", where='answer="503"'), "answered 503"),
            unit=PER_SECOND,
            limits=[(0.001, RED)],
            width=QUARTER,
        ),
        series(
            About(
                "How far the list is behind",
                "Checks of the list know every event up to so long ago. A few seconds is normal; it grows while an event waits "
                "anywhere in RabbitMQ, also as a dead letter, or while a change is not published.",
                "operate.md#how-fresh-the-list-is",
            ),
            Query("time() - max(bridge_list_fresh_as_of_timestamp_seconds > 0)", "behind"),
            unit=SECONDS,
            limits=[(300, YELLOW), (3600, RED)],
            width=QUARTER,
        ),
        series(
            About(
                "What waits",
                "Events in the spool, events for the workers, events that are tried again later, and changes that are not published. "
                "One that grows and grows is stuck, or what takes from it is too slow.",
                _START,
            ),
            Query("sum(bridge_spool_entries)", "spool"),
            Query(in_queue("suppression"), "workers"),
            Query(in_queue("suppression.retry.*"), "tried again later"),
            Query("max(bridge_outbox_changes)", "changes"),
            unit=COUNT,
            width=QUARTER,
        ),
        series(
            About(
                "What waits for a person",
                "Dead letters, bodies in the quarantine, and events that RabbitMQ refuses and the spool keeps. They stay until somebody "
                "replays or discards them: `bridge dead list`, `bridge quarantine list`, `bridge spool status`.",
                "operate.md#somebody-bounced-and-is-not-on-the-list",
            ),
            Query(in_queue("suppression.dead"), "dead letters"),
            Query(in_queue("email.malformed"), "quarantine"),
            Query("sum(bridge_spool_set_aside_entries)", "set aside in the spool"),
            unit=COUNT,
            limits=[(1, YELLOW)],
            width=QUARTER,
        ),
    ]


def _flow() -> list[Made]:
    return [
        series(
            About(
                "The way of an event",
                "Events that were taken, events that workers have finished with, and changes of the list that were published. Workers "
                "get only what can suppress, so the second line is far below the first; the third is not above it for long.",
                "how-it-works.md#the-way-of-an-event",
            ),
            Query(rate("bridge_events_received_total"), "received"),
            Query(rate("bridge_events_handled_total"), "handled"),
            Query(rate("bridge_changes_relayed_total"), "changes published"),
            unit=PER_SECOND,
        ),
        timeline(
            About(
                "Is everybody there?",
                "Every receiver, worker, API, console and node of RabbitMQ that Prometheus knows. Not ready: it runs and waits for a dependency; its "
                "`/readyz` says for which. Gaps are containers that were away.",
                "operate.md#a-role-rabbitmq-or-the-database-does-not-answer",
            ),
            Query(
                '1 + bridge_ready or 2 * up{job=~"receiver|worker|api|console|rabbitmq"}',
                "{{job}} {{instance}}",
            ),
            states={"2": ("ready", GREEN), "1": ("not ready", YELLOW), "0": ("does not answer", RED)},
        ),
        series(
            About(
                "Age of an event when it is on the list",
                "From the time at which the bounce or complaint happened until the list has it: of half of them, and of all but one in "
                "a hundred. The provider's own delay is part of it; Receive shows that alone.",
                "operate.md#how-fresh-the-list-is",
            ),
            Query(quantile(0.5, _AGE, where='stage="handled"'), "half"),
            Query(quantile(0.99, _AGE, where='stage="handled"'), "all but 1 in 100"),
            unit=SECONDS,
            limits=[(900, RED)],
        ),
        series(
            About(
                "Addresses on the list",
                "Entries by reason. A sudden step is an import, an erasure, or a mailing that went wrong: `bridge suppressions history` "
                "says who changed an address, and why.",
                "operate.md#finding-out-why-an-address-is-on-the-list",
            ),
            Query("max by (reason) (bridge_list_entries)", "{{reason}}"),
            unit=COUNT,
            stacked=True,
        ),
    ]
