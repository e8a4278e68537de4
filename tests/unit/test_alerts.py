"""The alerts as they are shipped, run by Prometheus' own promtool over the samples that the product shows."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.docs import checks
from tests.docs.tables import ROOT
from tests.support.promtool import promtool, takes_promtool

if TYPE_CHECKING:
    from pathlib import Path

RULES = ROOT / "config" / "prometheus" / "alerts.yml"
DESCRIPTIONS = dict(
    re.findall(
        r'- alert: (\w+)\n(?:(?! +- alert).*\n)*?          description: ("[^"]+")\n', RULES.read_text("utf-8")
    )
)
"""Alert -> what to do. They have no variables."""
RUNBOOKS = dict(
    re.findall(
        r'- alert: (\w+)\n(?:(?! +- alert).*\n)*?          runbook: "([^"]+)"\n', RULES.read_text("utf-8")
    )
)
"""Alert -> the section of the documentation that has more."""
SEVERITIES = dict(
    re.findall(
        r"- alert: (\w+)\n(?:(?! +- alert).*\n)*?        labels: { severity: (\w+) }\n",
        RULES.read_text("utf-8"),
    )
)
"""Alert -> who has to look: critical, somebody who is woken; warning, somebody today; info, nobody, unless it goes on."""

_, *_RULES = re.split(r"^(?=      - alert: )", RULES.read_text("utf-8"), flags=re.MULTILINE)
RULE_TEXTS = {one.split(maxsplit=3)[2]: one for one in _RULES}
"""Alert -> its lines. A case is played with them alone: with all of them it takes forty times as long."""

RECEIVER = 'job="receiver",instance="10.0.0.2:8090"'
WORKER = 'job="worker",instance="10.0.0.3:8091"'
API = 'job="api",instance="10.0.0.5:8092"'
NODE = 'job="rabbitmq",instance="10.0.0.4:15692"'
ANOTHER = 'job="worker",instance="10.0.0.9:8091"'
BUILD = 'python="3.13.5",version="{}"'.format
FIRST = {"job": "receiver", "instance": "10.0.0.2:8090"}
SECOND = {"job": "worker", "instance": "10.0.0.3:8091"}
ANEW = "10.0.0.3:8091 (worker) was started anew, with the version that it had"
PAUSED = "for most of ten minutes the circuit breaker of the provider was open: workers wait for it"


@dataclass(frozen=True, slots=True)
class Case:
    alert: str
    what: str
    series: dict[str, str]
    """In promtool's notation, a sample each 15 s. `stale` is what Prometheus notes when a target has gone."""
    at: str
    says: str = ""
    """Its summary; empty where it does not fire."""
    labels: dict[str, str] = field(default_factory=dict)
    step: str = "15s"
    """Between two samples, and between two looks at the rules: more where a case takes days."""


CASES = [
    Case(
        "BridgeProviderRefusesToken",
        "somebody has revoked it",
        {f'bridge_provider_calls_total{{status="401",{WORKER}}}': "_x10 1+1x40"},
        "8m",
        "the provider refuses our API token: no bounce gets onto the list whose address is not known already",
    ),
    Case(
        "BridgeProviderRefusesToken",
        "one call of many",
        {
            f'bridge_provider_calls_total{{status="200",{WORKER}}}': "0+50x50",
            f'bridge_provider_calls_total{{status="403",{WORKER}}}': "0x10 1x40",
        },
        "5m30s",
    ),
    Case(
        "BridgeNoEvents",
        "the provider has forgotten the webhook",
        {f'bridge_events_received_total{{name="opened",{RECEIVER}}}': "0+10x168 1680x10"},
        "172h",
        "for three hours no event has come, and yesterday and a week ago some came at this time",
        step="1h",
    ),
    Case(
        "BridgeNoEvents",
        "a day of the week on which nobody writes",
        {f'bridge_events_received_total{{name="opened",{RECEIVER}}}': "0x5 0+10x163 1630x10"},
        "172h",
        step="1h",
    ),
    Case(
        "BridgeRabbitMQFills",
        "its disk",
        {
            f"rabbitmq_disk_space_available_bytes{{{NODE}}}": "9000x4 1200x60",
            f"rabbitmq_disk_space_available_limit_bytes{{{NODE}}}": "1000x64",
        },
        "8m",
        "10.0.0.4:15692 has almost no memory or disk space left: at its limit RabbitMQ blocks publishes",
        {"instance": "10.0.0.4:15692"},
    ),
    Case(
        "BridgeRabbitMQFills",
        "its memory",
        {
            f"rabbitmq_process_resident_memory_bytes{{{NODE}}}": "300x4 950x60",
            f"rabbitmq_resident_memory_limit_bytes{{{NODE}}}": "1000x64",
        },
        "8m",
        "10.0.0.4:15692 has almost no memory or disk space left: at its limit RabbitMQ blocks publishes",
        {"instance": "10.0.0.4:15692"},
    ),
    Case(
        "BridgeRabbitMQFills",
        "a peak of its memory",
        {
            f"rabbitmq_process_resident_memory_bytes{{{NODE}}}": "300x4 950x12 300x60",
            f"rabbitmq_resident_memory_limit_bytes{{{NODE}}}": "1000x74",
        },
        "4m",
    ),
    Case(
        "BridgeApiFails",
        "the first time that this route is asked",
        {f'bridge_api_answers_total{{route="GET /v1/changes",status="503",{API}}}': "_x10 3x20"},
        "4m",
        "the API answered requests of senders with an error of its own (5xx)",
    ),
    Case(
        "BridgeApiFails",
        "it has failed long ago",
        {f'bridge_api_answers_total{{route="GET /v1/changes",status="503",{API}}}': "_x10 3x60"},
        "12m",
    ),
    Case(
        "BridgeListIsBehind",
        "a dead letter waits for two hours",
        {f"bridge_list_fresh_as_of_timestamp_seconds{{{WORKER}}}": "1x120"},
        "2h",
        "checks of the list may miss events of the last 1h 59m 59s",
        step="1m",
    ),
    Case(
        "BridgeListIsBehind",
        "a worker that has not reported yet",
        {
            f"bridge_list_fresh_as_of_timestamp_seconds{{{WORKER}}}": "0+60x120",
            'bridge_list_fresh_as_of_timestamp_seconds{job="worker",instance="10.0.0.9:8091"}': "0x120",
        },
        "2h",
        step="1m",
    ),
    Case(
        "BridgeReceiverAway",
        "stopped: service discovery has dropped it",
        {f"up{{{RECEIVER}}}": "1x20 stale"},
        "10m",
        "no receiver answers: events of the provider may be lost",
    ),
    Case(
        "BridgeReceiverAway",
        "it crashes, is started again, and is hardly ever up",
        {f"up{{{RECEIVER}}}": "1x20 " + "0 stale _ 1 stale _ _ 0 stale " * 6},
        "12m",
        "no receiver answers: events of the provider may be lost",
    ),
    Case("BridgeReceiverAway", "restarted once", {f"up{{{RECEIVER}}}": "1x20 stale _ 0 1x20"}, "7m"),
    Case(
        "BridgeReceiverAway",
        "one of two is stopped",
        {f"up{{{RECEIVER}}}": "1x20 stale", 'up{job="receiver",instance="10.0.0.9:8090"}': "1x60"},
        "10m",
    ),
    Case("BridgeReceiverAway", "Prometheus has only just started", {f"up{{{RECEIVER}}}": "1x60"}, "2m"),
    Case(
        "BridgeReceiverAway",
        "Prometheus has only just started, and sees it a scrape after the others",
        {f"up{{{WORKER}}}": "_x4 1x60", f"up{{{RECEIVER}}}": "_x5 1x60"},
        "2m",
    ),
    Case(
        "BridgeReceiverAway",
        "it has never been there",
        {f"up{{{WORKER}}}": "1x60"},
        "2m",
        "no receiver answers: events of the provider may be lost",
    ),
    Case(
        "BridgeReceiverAway",
        "nothing is there any more",
        {f"up{{{RECEIVER}}}": "1x20 stale", f"up{{{WORKER}}}": "1x20 stale"},
        "1h",
        "no receiver answers: events of the provider may be lost",
    ),
    Case(
        "BridgeWorkerAway",
        "stopped",
        {f"up{{{WORKER}}}": "1x20 stale"},
        "10m",
        "no worker answers: the suppression list is not updated",
    ),
    Case(
        "BridgeApiAway",
        "stopped",
        {f"up{{{API}}}": "1x20 stale"},
        "10m",
        "no API answers: senders cannot ask whom they may write to",
    ),
    Case(
        "BridgeConsoleAway",
        "stopped",
        {'up{job="console",instance="10.0.0.8:8092"}': "1x20 stale"},
        "10m",
        "the console does not answer: people look in vain",
    ),
    Case("BridgeConsoleAway", "there has never been one", {f"up{{{API}}}": "1x60"}, "10m"),
    Case("BridgeApiAway", "there has never been one", {f"up{{{WORKER}}}": "1x60"}, "10m"),
    Case("BridgeApiAway", "restarted once", {f"up{{{API}}}": "1x20 stale _ 0 1x20"}, "7m"),
    Case(
        "BridgeReceiverAway",
        "stopped a minute and a quarter ago",
        {f"up{{{RECEIVER}}}": "1x20 stale"},
        "6m15s",
        "no receiver answers: events of the provider may be lost",
    ),
    Case(
        "BridgeDatabaseAway",
        "it is stopped, and the workers' calls fail",
        {f'bridge_breaker_state{{dependency="database",{WORKER}}}': "0x4 2 1 2 1 2 2 2 1"},
        "2m15s",
        "the list's database does not answer the worker",
        {"job": "worker"},
    ),
    Case(
        "BridgeDatabaseAway",
        "nothing comes, and nobody asks",
        {
            f'bridge_breaker_state{{dependency="database",{WORKER}}}': "0x20",
            f"bridge_ready{{{WORKER}}}": "1x20",
            f"bridge_ready{{{API}}}": "1x4 0x20",
        },
        "2m15s",
        "the list's database does not answer the api",
        {"job": "api"},
    ),
    Case(
        "BridgeDatabaseAway",
        "the provider is away, and RabbitMQ",
        {
            f'bridge_breaker_state{{dependency="provider",{WORKER}}}': "0x4 2x20",
            f"bridge_ready{{{WORKER}}}": "1x4 0x20",
            f"bridge_ready{{{RECEIVER}}}": "1x4 0x20",
            f"bridge_ready{{{API}}}": "1x24",
        },
        "4m",
    ),
    Case(
        "BridgeDatabaseAway",
        "restarted",
        {
            f'bridge_breaker_state{{dependency="database",{WORKER}}}': "0x4 2 0x20",
            f"bridge_ready{{{API}}}": "1x4 0 0 1x20",
        },
        "1m45s",
    ),
    Case(
        "BridgeRoleRestarted",
        "killed, and up again before Prometheus has missed it",
        {
            f"bridge_start_time_seconds{{{WORKER}}}": "1000x10 1150x20",
            f"bridge_build_info{{{BUILD('1.0')},{WORKER}}}": "1x31",
        },
        "2m45s",
        ANEW,
        SECOND,
    ),
    Case(
        "BridgeRoleRestarted",
        "it has another address now",
        {
            'bridge_start_time_seconds{job="worker",instance="10.0.0.7:8091"}': "1000x10 stale",
            f"bridge_start_time_seconds{{{WORKER}}}": "_x12 1165x40",
            f"bridge_start_time_seconds{{{RECEIVER}}}": "1000x40",
            f'bridge_build_info{{{BUILD("1.0")},job="worker",instance="10.0.0.7:8091"}}': "1x10 stale",
            f"bridge_build_info{{{BUILD('1.0')},{WORKER}}}": "_x12 1x20",
        },
        "3m30s",
        ANEW,
        SECOND,
    ),
    Case(
        "BridgeRoleRestarted",
        "one process of a receiver has died",
        {
            f"bridge_start_time_seconds{{{RECEIVER}}}": "1000x40",
            f"bridge_receiver_restarts_total{{{RECEIVER}}}": "0x10 1x20",
        },
        "3m30s",
        "10.0.0.2:8090 (receiver) was started anew, with the version that it had",
        FIRST,
    ),
    Case(
        "BridgeRoleRestarted",
        "three more workers are started, and stopped a while later",
        {
            f"bridge_start_time_seconds{{{WORKER}}}": "1000x60",
            **{
                f'bridge_start_time_seconds{{job="worker",instance="10.0.0.{one}:8091"}}': "_x10 1150x10 stale"
                for one in (7, 8, 9)
            },
        },
        "5m30s",
    ),
    Case(
        "BridgeRoleRestarted",
        "killed, started, and then taken away",
        {
            f"bridge_start_time_seconds{{{WORKER}}}": "1000x60",
            f"bridge_start_time_seconds{{{ANOTHER}}}": "1000x10 1150x5 stale",
        },
        "4m15s",
    ),
    Case(
        "BridgeRoleRestarted",
        "three more workers are started",
        {
            f"bridge_start_time_seconds{{{WORKER}}}": "1000x60",
            f"bridge_start_time_seconds{{{ANOTHER}}}": "_x10 1150x10",
        },
        "3m15s",
    ),
    Case(
        "BridgeRoleRestarted",
        "a deploy of another version",
        {
            f"bridge_start_time_seconds{{{WORKER}}}": "1000x10 1150x20",
            f"bridge_build_info{{{BUILD('1.0')},{WORKER}}}": "1x10 stale",
            f"bridge_build_info{{{BUILD('1.1')},{WORKER}}}": "_x11 1x20",
        },
        "3m30s",
    ),
    Case(
        "BridgeRoleRestarted",
        "two and a half minutes ago",
        {f"bridge_start_time_seconds{{{WORKER}}}": "1000x10 1150x30"},
        "5m15s",
    ),
    Case(
        "BridgeRoleRestarted",
        "it was away for four minutes, and Prometheus was not told that it is gone",
        {f"bridge_start_time_seconds{{{WORKER}}}": "1000x10 _x16 1400x20"},
        "7m15s",
        ANEW,
        SECOND,
    ),
    Case(
        "BridgeRoleKeepsRestarting",
        "it wants more memory than it has",
        {f"bridge_start_time_seconds{{{WORKER}}}": "1000x10 1150x5 1225x4 1300 stale _ _ 1400x20"},
        "9m",
        "10.0.0.3:8091 (worker) was started anew four times in a quarter of an hour, or more often",
        SECOND,
    ),
    Case(
        "BridgeRoleKeepsRestarting",
        "a process of a receiver dies again and again",
        {
            f"bridge_start_time_seconds{{{RECEIVER}}}": "1000x60",
            f"bridge_receiver_restarts_total{{{RECEIVER}}}": "0x10 1x4 2x4 4x30",
        },
        "9m",
        "10.0.0.2:8090 (receiver) was started anew four times in a quarter of an hour, or more often",
        FIRST,
    ),
    Case(
        "BridgeRoleKeepsRestarting",
        "three deploys",
        {f"bridge_start_time_seconds{{{WORKER}}}": "1000x10 1150x5 1225x4 1300x30"},
        "9m",
    ),
    Case(
        "BridgeBrokerReconnected",
        "RabbitMQ was restarted within a scrape",
        {
            f"bridge_start_time_seconds{{{WORKER}}}": "1000x40",
            f'bridge_broker_connects_total{{use="publish",{WORKER}}}': "1x12 2x20",
            f'bridge_broker_connects_total{{use="consume",{WORKER}}}': "1x12 2x20",
        },
        "3m45s",
        "10.0.0.3:8091 (worker) has lost its connection to RabbitMQ, and has a new one",
        SECOND,
    ),
    Case(
        "BridgeBrokerReconnected",
        "the worker has just been started",
        {
            f"bridge_start_time_seconds{{{WORKER}}}": "_x10 1000x20",
            f'bridge_broker_connects_total{{use="publish",{WORKER}}}': "_x10 0 1x20",
        },
        "3m30s",
    ),
    Case(
        "BridgeBrokerReconnected",
        "RabbitMQ came after the worker",
        {
            f"bridge_start_time_seconds{{{WORKER}}}": "1000x40",
            f'bridge_broker_connects_total{{use="publish",{WORKER}}}': "0x12 1x20",
        },
        "3m45s",
    ),
    Case(
        "BridgeBrokerReconnected",
        "the worker was restarted",
        {
            f"bridge_start_time_seconds{{{WORKER}}}": "1000x10 1150x20",
            f'bridge_broker_connects_total{{use="publish",{WORKER}}}': "1x10 0 1x20",
        },
        "3m30s",
    ),
    Case(
        "BridgeBrokerReconnected",
        "it has something to drain, for the first time",
        {
            f"bridge_start_time_seconds{{{RECEIVER}}}": "1000x40",
            f'bridge_broker_connects_total{{use="drain",{RECEIVER}}}': "0x12 1x20",
        },
        "3m45s",
    ),
    Case(
        "BridgeDependencyFailed",
        "the database was restarted between two scrapes",
        {
            f'bridge_pauses_total{{dependency="database",{WORKER}}}': "0x10 2x20",
            f'bridge_breaker_state{{dependency="database",{WORKER}}}': "0x30",
        },
        "3m15s",
        "the database has failed, and workers have paused",
        {"dependency": "database"},
    ),
    Case(
        "BridgeDependencyFailed",
        "three minutes ago",
        {f'bridge_pauses_total{{dependency="database",{WORKER}}}': "0x10 2x20"},
        "5m30s",
    ),
    Case(
        "BridgeDependencyFailed",
        "the worker was restarted",
        {f'bridge_pauses_total{{dependency="provider",{WORKER}}}': "7x10 0x20"},
        "3m15s",
    ),
    Case(
        "BridgeMoveForgotten",
        "it was killed, and nobody has noticed",
        {
            'rabbitmq_queue_messages{vhost="/",queue="suppression.moving"}': "_x4 12x80",
            'rabbitmq_queue_messages{vhost="/",queue="suppression"}': "0x84",
        },
        "17m",
        "suppression.moving still stands: a move of its queue to other arguments was interrupted, and 12 messages wait in it",
        {"vhost": "/", "queue": "suppression.moving"},
    ),
    Case(
        "BridgeMoveForgotten",
        "it was killed before a message came",
        {'rabbitmq_queue_messages{vhost="/",queue="staging.crm.moving"}': "_x4 0x80"},
        "17m",
        "staging.crm.moving still stands: a move of its queue to other arguments was interrupted, and 0 messages wait in it",
        {"vhost": "/", "queue": "staging.crm.moving"},
    ),
    Case(
        "BridgeMoveForgotten",
        "it takes five minutes",
        {'rabbitmq_queue_messages{vhost="/",queue="suppression.moving"}': "_x4 0+1000x20 stale"},
        "12m",
    ),
    Case(
        "BridgeMoveForgotten",
        "a queue of somebody else",
        {'rabbitmq_queue_messages{vhost="/",queue="trucks.moving.house"}': "12x84"},
        "17m",
    ),
    Case(
        "BridgeQueuesUnseen",
        "sums of all queues are scraped",
        {'up{job="rabbitmq",instance="10.0.0.4:15692"}': "1x40", "rabbitmq_queue_consumers": "7x40"},
        "8m",
        "Prometheus sees RabbitMQ, and no queue suppression: no alert on RabbitMQ's queues can fire",
    ),
    Case(
        "BridgeQueuesUnseen",
        "the queue is moved to other arguments",
        {
            'up{job="rabbitmq",instance="10.0.0.4:15692"}': "1x40",
            'rabbitmq_queue_consumers{vhost="/",queue="suppression"}': "1x10 stale _x8 1x20",
        },
        "4m45s",
    ),
    Case(
        "BridgeQueuesUnseen",
        "RabbitMQ is away, which is another alert",
        {'up{job="rabbitmq",instance="10.0.0.4:15692"}': "1x10 0x40"},
        "10m",
    ),
    Case(
        "BridgeApiFails",
        "its database is away",
        {f'bridge_api_answers_total{{route="POST /v1/suppressions/check",status="503",{API}}}': "0x10 3x20"},
        "4m",
        "the API answered requests of senders with an error of its own (5xx)",
    ),
    Case(
        "BridgeApiFails",
        "senders make mistakes",
        {f'bridge_api_answers_total{{route="none",status="422",{API}}}': "0x10 30x20"},
        "4m",
    ),
    Case(
        "BridgeRabbitMQAway",
        "stopped",
        {'up{job="rabbitmq",instance="10.0.0.4:15692"}': "1x20 stale"},
        "10m",
        "RabbitMQ does not answer Prometheus: no alert on its queues can fire",
    ),
    Case(
        "BridgeRoleDown",
        "it is there and does not answer",
        {f"up{{{RECEIVER}}}": "1x20 0x20"},
        "8m",
        "10.0.0.2:8090 (receiver) does not answer",
        FIRST,
    ),
    Case(
        "BridgeRefusesEvents",
        "a burst between two scrapes",
        {f'bridge_answers_total{{answer="503",{RECEIVER}}}': "0x10 12180x20"},
        "4m",
        "events were answered 503: neither RabbitMQ nor the spool took them",
    ),
    Case(
        "BridgeBrokerAway",
        "the connection is lost",
        {
            f'bridge_broker_state{{state="down",use="publish",{RECEIVER}}}': "0x10 1x20",
            f'bridge_broker_state{{state="blocked",use="publish",{RECEIVER}}}': "0x30",
            f'bridge_broker_up{{use="publish",{RECEIVER}}}': "1x10 0x20",
        },
        "5m",
        "10.0.0.2:8090 (receiver) has no working connection to RabbitMQ",
        FIRST,
    ),
    Case(
        "BridgeBrokerAway",
        "a memory alarm is another thing",
        {
            f'bridge_broker_state{{state="down",use="publish",{RECEIVER}}}': "0x30",
            f'bridge_broker_state{{state="blocked",use="publish",{RECEIVER}}}': "0x10 1x20",
            f'bridge_broker_up{{use="publish",{RECEIVER}}}': "1x10 0x20",
        },
        "5m",
    ),
    Case(
        "BridgeBrokerBlocked",
        "a memory alarm",
        {
            f'bridge_broker_state{{state="down",use="publish",{WORKER}}}': "0x30",
            f'bridge_broker_state{{state="blocked",use="publish",{WORKER}}}': "0x10 1x20",
            f'bridge_broker_state{{state="blocked",use="consume",{WORKER}}}': "0x30",
        },
        "5m",
        "RabbitMQ is up, but blocks publishes of 10.0.0.3:8091 (worker): it has a memory or disk alarm",
        SECOND,
    ),
    Case(
        "BridgeSpoolWaits",
        "RabbitMQ stays away",
        {f"bridge_spool_oldest_seconds{{{RECEIVER}}}": "0x4 0+15x30"},
        "6m30s",
        "an event has waited in the spool for 5m 15s",
    ),
    Case(
        "BridgeEventsNacked",
        "a queue was full for a moment",
        {f'bridge_publishes_total{{outcome="nacked",{RECEIVER}}}': "0x10 7x30"},
        "6m",
        "RabbitMQ refused events (basic.nack), as a queue that is full and rejects does",
    ),
    Case(
        "BridgeEventsUnconfirmed",
        "a queue of two names has lost its majority",
        {f"bridge_spool_unconfirmed_names{{{RECEIVER}}}": "0x4 2x40"},
        "3m",
        "10.0.0.2:8090: RabbitMQ takes events of 2 names and does not confirm them",
        FIRST,
    ),
    Case(
        "BridgeEventsSetAside",
        "a user lost a right",
        {f'bridge_spool_set_aside_entries{{reason="forbidden",{RECEIVER}}}': "0x4 3x40"},
        "8m",
        "3 events are set aside in the spool, because RabbitMQ refuses them (forbidden)",
        {"reason": "forbidden"},
    ),
    Case(
        "BridgeSpoolRefuses",
        "its disk is full",
        {f"bridge_spool_refusing{{{RECEIVER}}}": "0x4 1x40"},
        "3m",
        "the spool of 10.0.0.2:8090 takes no events",
        {"instance": "10.0.0.2:8090"},
    ),
    Case(
        "BridgeSpoolFills",
        "RabbitMQ stays away",
        {
            f"bridge_spool_bytes{{{RECEIVER}}}": "0x4 100+100x20",
            f"bridge_spool_limit_bytes{{{RECEIVER}}}": "1000x30",
        },
        "5m",
        "the spool of 10.0.0.2:8090 is more than 80 % full",
        FIRST,
    ),
    Case(
        "BridgeSpoolFills",
        "it has room",
        {
            f"bridge_spool_bytes{{{RECEIVER}}}": "700x30",
            f"bridge_spool_limit_bytes{{{RECEIVER}}}": "1000x30",
        },
        "5m",
    ),
    Case(
        "BridgeNoWorker",
        "the last consumer has gone",
        {'rabbitmq_queue_consumers{queue="suppression"}': "1x4 0x20"},
        "3m",
        "nobody consumes the suppression queue: the suppression list is not updated",
        {"queue": "suppression"},
    ),
    Case(
        "BridgeTopologyRefused",
        "a subscriber's classic queue",
        {f'bridge_topology_refused{{name="crm",{RECEIVER}}}': "0x4 1x40"},
        "8m",
        "crm does not exist in RabbitMQ as planned",
        {"name": "crm"},
    ),
    Case(
        "BridgeBackfillDue",
        "nobody fills it",
        {f"bridge_backfill_due{{{WORKER}}}": "0x4 1x90"},
        "18m",
        "the suppression queue was deleted or unbound, and has not been filled again for a quarter of an hour",
    ),
    Case(
        "BridgeWorkersBehind",
        "more come than are worked off",
        {'rabbitmq_queue_messages_ready{queue="suppression"}': "0x4 2000x60"},
        "12m",
        "2000 events wait for the workers",
        {"queue": "suppression"},
    ),
    Case(
        "BridgeWorkerPauses",
        "the provider hangs: half-open whenever it tries",
        {f'bridge_breaker_state{{dependency="provider",{WORKER}}}': "0x4 " + "2 2 1 " * 20},
        "12m",
        PAUSED,
        {"dependency": "provider"},
    ),
    Case(
        "BridgeWorkerPauses",
        "it answers one call in many: closed for a moment now and then",
        {f'bridge_breaker_state{{dependency="provider",{WORKER}}}': "0x4 " + "2 2 1 2 2 1 0 " * 9},
        "12m",
        PAUSED,
        {"dependency": "provider"},
    ),
    Case(
        "BridgeWorkerPauses",
        "the worker is started anew meanwhile",
        {
            f'bridge_breaker_state{{dependency="provider",{WORKER}}}': "0x4 2x20 stale",
            'bridge_breaker_state{dependency="provider",job="worker",instance="10.0.0.9:8091"}': "_x25 0 2x40",
        },
        "12m",
        PAUSED,
        {"dependency": "provider"},
    ),
    Case(
        "BridgeWorkerPauses",
        "a pause of three minutes",
        {f'bridge_breaker_state{{dependency="provider",{WORKER}}}': "0x20 2x12 0x40"},
        "10m",
    ),
    Case(
        "BridgeCallHangs",
        "a lock of the database",
        {f'bridge_oldest_call_seconds{{dependency="database",{WORKER}}}': "0x4 0+15x20"},
        "2m30s",
        "a call to the database has had no answer for 1m 15s",
        {"dependency": "database"},
    ),
    Case(
        "BridgeWorkerStuck",
        "once",
        {f'bridge_worker_stuck_total{{component="relay",{WORKER}}}': "0x10 1x20"},
        "5m",
        "a worker was found stuck (relay)",
        {"component": "relay"},
    ),
    Case(
        "BridgeDeadLetters",
        "one",
        {f'bridge_dead_letters_total{{reason="unknown-message",{WORKER}}}': "0x10 1x20"},
        "5m",
        "messages went to the dead letters (unknown-message)",
        {"reason": "unknown-message"},
    ),
    Case(
        "BridgeQuarantine",
        "two bodies wait",
        {'rabbitmq_queue_messages_ready{queue="email.malformed"}': "0x4 2x20"},
        "3m",
        "2 bodies that cannot be read as events are in the quarantine",
        {"queue": "email.malformed"},
    ),
    Case(
        "BridgeQuarantines",
        "one came",
        {f'bridge_events_received_total{{name="malformed",{RECEIVER}}}': "0x10 1x20"},
        "5m",
        "bodies came that cannot be read as events; some may be bounces",
    ),
    Case(
        "BridgeSubscriberIdle",
        "its service is stopped; a worker that was started later knows less",
        {
            f'bridge_subscriber_idle_seconds{{queue="crm",{WORKER}}}': "0x4 0+15x90",
            'bridge_subscriber_idle_seconds{queue="crm",job="worker",instance="10.0.0.9:8091"}': "_x40 0+15x54",
            f'bridge_subscriber_idle_seconds{{queue="shop",{WORKER}}}': "0x94",
        },
        "18m",
        "crm has not been consumed for 16m 45s, and messages wait in it",
        {"queue": "crm"},
    ),
    Case(
        "BridgeSubscriberIdle",
        "it consumes every ten minutes",
        {f'bridge_subscriber_idle_seconds{{queue="crm",{WORKER}}}': "0+15x40 0+15x40"},
        "20m",
    ),
    Case(
        "BridgeSubscriberIdle",
        "it is removed",
        {f'bridge_subscriber_idle_seconds{{queue="crm",{WORKER}}}': "0+15x70 stale"},
        "18m",
    ),
    Case(
        "BridgeSubscriberBehind",
        "it consumes less than comes",
        {f'bridge_subscriber_oldest_seconds{{queue="crm",{WORKER}}}': "0+60x75"},
        "70m",
        "the oldest message in crm has waited for 1h 10m 0s",
        {"queue": "crm"},
        step="1m",
    ),
    Case(
        "BridgeSubscriberBehind",
        "for a moment",
        {f'bridge_subscriber_oldest_seconds{{queue="crm",{WORKER}}}': "0x60 4000x10 0x20"},
        "20m",
    ),
    Case(
        "BridgeSubscriberDeadLetters",
        "its queue is full and drops",
        {f'bridge_subscriber_dead_letters{{queue="crm",{WORKER}}}': "3x10 8x30"},
        "5m",
        "messages of crm went to its dead letters",
        {"queue": "crm"},
    ),
    Case(
        "BridgeSubscriberDeadLetters",
        "its team takes them out",
        {f'bridge_subscriber_dead_letters{{queue="crm",{WORKER}}}': "8x10 0x30"},
        "5m",
    ),
    Case(
        "BridgeChangesWait",
        "nobody publishes them",
        {f"bridge_outbox_oldest_seconds{{{WORKER}}}": "0x4 0+15x20"},
        "2m30s",
        "a change of the list has not been published for 1m 15s",
    ),
    Case(
        "BridgeNobodyPublishes",
        "the turn is nobody's",
        {f"bridge_outbox_changes{{{WORKER}}}": "0x4 5x20", f"bridge_outbox_lease{{{WORKER}}}": "1x4 0x20"},
        "4m",
        "5 changes of the list are not published: no worker holds the lease",
    ),
    Case(
        "BridgeNobodyPublishes",
        "somebody has it",
        {f"bridge_outbox_changes{{{WORKER}}}": "0x4 5x20", f"bridge_outbox_lease{{{WORKER}}}": "1x24"},
        "4m",
    ),
    Case(
        "BridgeListIsLate",
        "all are half an hour old",
        {
            f'bridge_event_age_seconds_bucket{{stage="handled",le="{bound}",{WORKER}}}': value
            for bound, value in (("900", "0x80"), ("3600", "0+10x80"), ("+Inf", "0+10x80"))
        },
        "15m",
        "1 in 100 bounces and complaints is older than a quarter of an hour when it is recorded",
    ),
]
NEAR = [
    Case(
        "BridgeReceiverAway",
        "restarted, and it has taken half a minute",
        {f"up{{{RECEIVER}}}": "1x20 stale _ 0 1x20"},
        "6m15s",
    ),
    Case(
        "BridgeBrokerAway",
        "RabbitMQ was restarted",
        {f'bridge_broker_state{{state="down",use="publish",{RECEIVER}}}': "0x10 1x2 0x20"},
        "3m15s",
    ),
    Case("BridgeWorkerAway", "restarted once", {f"up{{{WORKER}}}": "1x20 stale _ 0 1x20"}, "7m"),
    Case(
        "BridgeRabbitMQAway",
        "restarted once",
        {'up{job="rabbitmq",instance="10.0.0.4:15692"}': "1x20 stale _ 0 1x20"},
        "7m",
    ),
    Case("BridgeRoleDown", "one scrape was too slow", {f"up{{{RECEIVER}}}": "1x20 0x2 1x20"}, "5m45s"),
    Case(
        "BridgeRoleDown",
        "Prometheus itself",
        {'up{job="prometheus",instance="localhost:9090"}': "0x60"},
        "8m",
    ),
    Case(
        "BridgeRefusesEvents",
        "it refuses bodies that are not JSON",
        {f'bridge_answers_total{{answer="400",{RECEIVER}}}': "0x10 12180x20"},
        "4m",
    ),
    Case(
        "BridgeRefusesEvents",
        "the last one was ten minutes ago",
        {f'bridge_answers_total{{answer="503",{RECEIVER}}}': "0x10 12180x60"},
        "13m",
    ),
    Case(
        "BridgeBrokerBlocked",
        "an alarm for half a minute",
        {f'bridge_broker_state{{state="blocked",use="publish",{WORKER}}}': "0x10 1x2 0x20"},
        "3m15s",
    ),
    Case(
        "BridgeSpoolWaits",
        "RabbitMQ was restarted",
        {f"bridge_spool_oldest_seconds{{{RECEIVER}}}": "0x4 0+15x8 0x20"},
        "3m15s",
    ),
    Case(
        "BridgeEventsNacked",
        "all are confirmed",
        {f'bridge_publishes_total{{outcome="confirmed",{RECEIVER}}}': "0+100x60"},
        "6m",
    ),
    Case(
        "BridgeEventsUnconfirmed",
        "a node was restarted",
        {f"bridge_spool_unconfirmed_names{{{RECEIVER}}}": "0x4 2x3 0x40"},
        "2m",
    ),
    Case(
        "BridgeEventsSetAside",
        "taken at the next attempt",
        {f'bridge_spool_set_aside_entries{{reason="nacked",{RECEIVER}}}': "0x4 3x8 0x40"},
        "3m15s",
    ),
    Case(
        "BridgeSpoolRefuses",
        "for one scrape",
        {f"bridge_spool_refusing{{{RECEIVER}}}": "0x4 1 0x40"},
        "1m15s",
    ),
    Case(
        "BridgeNoWorker",
        "another queue without a consumer",
        {
            'rabbitmq_queue_consumers{queue="suppression"}': "2x40",
            'rabbitmq_queue_consumers{queue="suppression.dead"}': "0x40",
        },
        "3m",
    ),
    Case(
        "BridgeNoWorker",
        "the only one is restarted",
        {'rabbitmq_queue_consumers{queue="suppression"}': "1x4 0x2 1x20"},
        "1m30s",
    ),
    Case(
        "BridgeNoWorker",
        "the queue's leader has moved to another node",
        {
            'rabbitmq_queue_consumers{queue="suppression",instance="10.0.0.4:15692"}': "1x4 0x20",
            'rabbitmq_queue_consumers{queue="suppression",instance="10.0.0.6:15692"}': "_x4 1x20",
        },
        "4m",
    ),
    Case(
        "BridgeTopologyRefused",
        "until its queue is declared",
        {f'bridge_topology_refused{{name="crm",{RECEIVER}}}': "0x4 1x8 0x40"},
        "3m15s",
    ),
    Case(
        "BridgeBackfillDue",
        "it is filled within ten minutes",
        {f"bridge_backfill_due{{{WORKER}}}": "0x4 1x40 0x60"},
        "11m",
    ),
    Case(
        "BridgeWorkersBehind",
        "a mailing, and they catch up",
        {'rabbitmq_queue_messages_ready{queue="suppression"}': "0x4 5000x20 10x60"},
        "6m",
    ),
    Case(
        "BridgeWorkersBehind",
        "another queue",
        {'rabbitmq_queue_messages_ready{queue="crm"}': "5000x90"},
        "12m",
    ),
    Case(
        "BridgeCallHangs",
        "slow",
        {f'bridge_oldest_call_seconds{{dependency="database",{WORKER}}}': "0 15 30 45 60 0 15 30 45 60 0x20"},
        "1m",
    ),
    Case(
        "BridgeWorkerStuck",
        "an hour ago",
        {f'bridge_worker_stuck_total{{component="relay",{WORKER}}}': "0x3 1x60"},
        "60m",
        step="1m",
    ),
    Case(
        "BridgeDeadLetters",
        "the worker is started anew, and counts from 0",
        {f'bridge_dead_letters_total{{reason="unknown-message",{WORKER}}}': "5x10 0x20"},
        "5m",
    ),
    Case(
        "BridgeQuarantine",
        "what waits is elsewhere",
        {'rabbitmq_queue_messages_ready{queue="email.unrouted"}': "2x20"},
        "3m",
    ),
    Case(
        "BridgeQuarantines",
        "a name that nobody knows is an event, too",
        {f'bridge_events_received_total{{name="other",{RECEIVER}}}': "0x10 1x20"},
        "5m",
    ),
    Case(
        "BridgeChangesWait",
        "a batch takes a moment",
        {f"bridge_outbox_oldest_seconds{{{WORKER}}}": "0x4 0 15 30 45 0x20"},
        "2m",
    ),
    Case(
        "BridgeListIsLate",
        "a few of many are old",
        {
            f'bridge_event_age_seconds_bucket{{stage="handled",le="{bound}",{WORKER}}}': value
            for bound, value in (("900", "0+1000x80"), ("3600", "0+1001x80"), ("+Inf", "0+1001x80"))
        },
        "15m",
    ),
    Case(
        "BridgeListIsLate",
        "what the receiver saw says nothing of the list",
        {
            f'bridge_event_age_seconds_bucket{{stage="received",le="{bound}",{RECEIVER}}}': value
            for bound, value in (("900", "0x80"), ("3600", "0+10x80"), ("+Inf", "0+10x80"))
        },
        "15m",
    ),
]
"""What only looks like it, of the alerts whose cases above have no such."""
WELL = {
    f"up{{{RECEIVER}}}": "1x80",
    f"up{{{WORKER}}}": "1x80",
    f"up{{{API}}}": "1x80",
    f'bridge_api_answers_total{{route="POST /v1/suppressions/check",status="200",{API}}}': "0+100x80",
    'up{job="rabbitmq",instance="10.0.0.4:15692"}': "1x80",
    f"rabbitmq_process_resident_memory_bytes{{{NODE}}}": "600x80",
    f"rabbitmq_resident_memory_limit_bytes{{{NODE}}}": "1000x80",
    f"rabbitmq_disk_space_available_bytes{{{NODE}}}": "9000x80",
    f"rabbitmq_disk_space_available_limit_bytes{{{NODE}}}": "1000x80",
    f'bridge_events_received_total{{name="opened",{RECEIVER}}}': "0+3x80",
    **{f"bridge_start_time_seconds{{{role}}}": "1000x80" for role in (RECEIVER, WORKER, API)},
    **{f"bridge_ready{{{role}}}": "1x80" for role in (RECEIVER, WORKER, API)},
    **{f"bridge_build_info{{{BUILD('1.0')},{role}}}": "1x80" for role in (RECEIVER, WORKER, API)},
    f"bridge_receiver_restarts_total{{{RECEIVER}}}": "2x80",
    f'bridge_broker_connects_total{{use="publish",{WORKER}}}': "3x80",
    f'bridge_pauses_total{{dependency="database",{WORKER}}}': "4x80",
    f'bridge_breaker_state{{dependency="database",{WORKER}}}': "0x80",
    'rabbitmq_queue_messages{queue="suppression"}': "5x80",
    f'bridge_answers_total{{answer="503",{RECEIVER}}}': "0x80",
    f'bridge_broker_state{{state="down",use="publish",{RECEIVER}}}': "0x80",
    f'bridge_broker_state{{state="blocked",use="publish",{RECEIVER}}}': "0x80",
    f'bridge_publishes_total{{outcome="nacked",{RECEIVER}}}': "0x80",
    f"bridge_spool_oldest_seconds{{{RECEIVER}}}": "0x80",
    f'bridge_spool_set_aside_entries{{reason="nacked",{RECEIVER}}}': "0x80",
    f"bridge_spool_unconfirmed_names{{{RECEIVER}}}": "0x80",
    f"bridge_spool_refusing{{{RECEIVER}}}": "0x80",
    f'bridge_topology_refused{{name="suppression",{WORKER}}}': "0x80",
    f'bridge_breaker_state{{dependency="provider",{WORKER}}}': "0x80",
    f'bridge_oldest_call_seconds{{dependency="database",{WORKER}}}': "0x80",
    f'bridge_worker_stuck_total{{component="relay",{WORKER}}}': "0x80",
    f'bridge_dead_letters_total{{reason="unresolved",{WORKER}}}': "0x80",
    f'bridge_provider_calls_total{{status="404",{WORKER}}}': "0+1x80",
    f"bridge_backfill_due{{{WORKER}}}": "0x80",
    f"bridge_list_fresh_as_of_timestamp_seconds{{{WORKER}}}": "0+15x80",
    f'bridge_subscriber_idle_seconds{{queue="crm",{WORKER}}}': "0 15 0x78",
    f'bridge_subscriber_oldest_seconds{{queue="crm",{WORKER}}}': "15x80",
    f'bridge_subscriber_dead_letters{{queue="crm",{WORKER}}}': "2x80",
    f"bridge_outbox_changes{{{WORKER}}}": "0 3 0 0 2x76",
    f"bridge_outbox_oldest_seconds{{{WORKER}}}": "0x80",
    f"bridge_outbox_lease{{{WORKER}}}": "1x80",
    'rabbitmq_queue_consumers{vhost="/",queue="suppression"}': "2x80",
    'rabbitmq_queue_messages_ready{queue="suppression"}': "5x80",
    'rabbitmq_queue_messages_ready{queue="email.malformed"}': "0x80",
}


def checked(case: Case) -> dict[str, object]:
    annotations = {
        "summary": case.says,
        "description": json.loads(DESCRIPTIONS[case.alert]),
        "runbook": RUNBOOKS[case.alert],
    }
    labels = case.labels | {"severity": SEVERITIES[case.alert]}
    firing = [{"exp_labels": labels, "exp_annotations": annotations}] if case.says else []
    return {
        "name": f"{case.alert}, {case.what}",
        "interval": case.step,
        "input_series": [{"series": name, "values": values} for name, values in case.series.items()],
        "alert_rule_test": [{"alertname": case.alert, "eval_time": case.at, "exp_alerts": firing}],
    }


@takes_promtool
def test_each_alert_fires_as_its_text_says(tmp_path: Path) -> None:
    """Over samples of the case that it is for, and not over those of a case that only looks like it."""
    cases = [*CASES, *NEAR]
    for alert, step in sorted({(case.alert, case.step) for case in cases}):
        rules = tmp_path / f"{alert}.yml"
        rules.write_text(f"groups:\n  - name: one\n    rules:\n{RULE_TEXTS[alert]}")
        tests = [checked(case) for case in cases if (case.alert, case.step) == (alert, step)]
        assert promtool(tests, tmp_path, every=step, rules=[rules]) == ""


def test_each_alert_has_its_cases_and_says_what_to_do() -> None:
    """One in which it fires, and one in which it does not. An alert that is added is tested, too."""
    alerts = set(re.findall(r"- alert: (\w+)", RULES.read_text("utf-8")))
    assert alerts == {case.alert for case in CASES if case.says} == set(DESCRIPTIONS)
    assert alerts == {case.alert for case in (*CASES, *NEAR) if not case.says}


def test_each_alert_says_who_has_to_look() -> None:
    """The router of the alerts goes by it: the one whom it wakes, the one who looks in the morning, and nobody."""
    assert set(SEVERITIES) == set(DESCRIPTIONS)
    assert set(SEVERITIES.values()) == {"critical", "warning", "info"}


def test_each_alert_leads_to_a_section_of_the_documentation() -> None:
    """The page is there, and has that heading."""
    assert set(RUNBOOKS) == set(DESCRIPTIONS)
    page = ROOT / "README.md"
    assert [problem for link in RUNBOOKS.values() for problem in checks.of_page(page, f"[it]({link})")] == []
    assert all("#" in link for link in RUNBOOKS.values())


@takes_promtool
def test_no_alert_fires_where_all_is_well(tmp_path: Path) -> None:
    """From Prometheus' own start on."""
    times = ["15s", "1m", "2m", "3m", "5m", "12m", "19m"]
    silent = [
        {"alertname": alert, "eval_time": at, "exp_alerts": []} for alert in DESCRIPTIONS for at in times
    ]
    well = checked(Case("BridgeReceiverAway", "all is well", WELL, at="0s")) | {"alert_rule_test": silent}
    assert promtool([well], tmp_path) == ""
