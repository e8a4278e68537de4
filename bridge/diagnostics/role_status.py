"""The state of receivers, workers and APIs, read from their health endpoints."""

from __future__ import annotations

import asyncio
import socket
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import orjson
from prometheus_client.parser import text_string_to_metric_families
from yarl import URL

from bridge.broker.management import connect_failure
from bridge.roles.api import API_HEALTH_PORT
from bridge.roles.identity import BRIDGE, SETTINGS, read_identity
from bridge.roles.receiver import RECEIVER_HEALTH_PORT
from bridge.roles.worker import WORKER_HEALTH_PORT
from bridge.telemetry.metric_definitions import HANDLED

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from bridge.roles.identity import Identity
    from bridge.settings.sections import Settings

LabelledValues = dict[str, float]
"""Label value -> number."""

TOKENS: Final = "bridge_tokens"
ADMITTED: Final = "bridge_requests_admitted_total"
AGES: Final = "bridge_event_age_seconds_bucket"
_SPOOLED: Final = "bridge_spool_entries"
_SPOOLED_FOR: Final = "bridge_spool_oldest_seconds"

_LABELS: Final = {
    "bridge_events_received_total": "name",
    "bridge_events_handled_total": "outcome",
    "bridge_dead_letters_total": "reason",
    "bridge_breaker_state": "dependency",
    "bridge_backfill_events_total": "",
    TOKENS: "",
    ADMITTED: "token",
    "bridge_subscriber_oldest_seconds": "queue",
    "bridge_subscriber_idle_seconds": "queue",
    "bridge_subscriber_consumed_timestamp_seconds": "queue",
    "bridge_answers_total": "answer",
    AGES: "le",
    _SPOOLED: "",
    _SPOOLED_FOR: "",
}
"""The samples that are read: name -> the label by whose values they are summed; empty: no label."""
_ONLY: Final = {AGES: ("stage", HANDLED)}
"""Of these samples only those with this value of this label."""

_TIMEOUT_SECONDS: Final = 3.0
"""The timeout for all requests to one role."""

_WHERE: Final = "say where this one's is, with --metrics or health.roles (BRIDGE_HEALTH__ROLES)"

_UNCONFIRMED: Final = "unconfirmed"
"""In the part `broker` of a receiver's `/readyz`."""

_HEALTHY_STATES: Final = frozenset({"up", "closed"})
"""States of connections and circuit breakers."""

_WILDCARDS: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 -- looked up, not bound


@dataclass(frozen=True, slots=True)
class RoleStatus:
    """The state of one receiver, worker or API."""

    url: str
    problem: str = ""
    """Why it cannot be read; empty if it can."""
    kind: str = "?"
    """`receiver`, `worker`, `api`, or `?` if it is unknown."""
    ready: bool = False
    reasons: tuple[str, ...] = ()
    """The problems that `/readyz` and `/livez` report."""
    counts: Mapping[str, LabelledValues] = field(default_factory=dict)
    """Sample name -> values by label."""
    bridge: Identity | None = None
    """The bridge that it belongs to; None where it does not say."""
    unconfirmed: tuple[str, ...] = ()
    """The event names of which RabbitMQ confirms nothing to this receiver; `others` are all that the provider does not document."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """`file` and `fingerprint` of the settings file that it was started with; empty where it has none."""

    def by_label(self, name: str) -> LabelledValues:
        """The values of a sample by its label; empty if the role does not have it."""
        return dict(self.counts.get(name, {}))


def health_urls(settings: Settings) -> list[str]:
    """Where roles of these settings serve their health: as `health.roles` says, or else on this machine.

    There need not be an API: it is asked if it has tokens.
    """
    health = settings.health
    if health.roles:
        return list(health.roles)
    host = _WILDCARDS.get(health.host, health.host)
    ports = [RECEIVER_HEALTH_PORT, WORKER_HEALTH_PORT, *([API_HEALTH_PORT] if settings.api.tokens else [])]
    if health.port:
        ports = [health.port]
    return [str(URL.build(scheme="http", host=host, port=port)) for port in ports]


async def ask_all(session: aiohttp.ClientSession, urls: Iterable[str]) -> list[RoleStatus]:
    """Ask all roles in parallel. One that does not answer has a problem instead of numbers.

    Each address of a host name counts as a role: Compose's `worker` stands for all workers.
    """
    found = await asyncio.gather(*(_resolve_all(url.rstrip("/")) for url in urls))
    return list(await asyncio.gather(*(_ask(session, url) for some in found for url in some)))


def sum_by_label(roles: Iterable[RoleStatus], name: str) -> LabelledValues:
    """The sum of a counter over all roles, by label, without zeros."""
    total: defaultdict[str, float] = defaultdict(float)
    for role in roles:
        for label, value in role.by_label(name).items():
            total[label] += value
    return {label: value for label, value in total.items() if value}


def greatest_by_label(roles: Iterable[RoleStatus], name: str) -> LabelledValues:
    """The greatest value of a gauge over all roles, by label."""
    greatest: LabelledValues = {}
    for role in roles:
        for label, value in role.by_label(name).items():
            greatest[label] = max(value, greatest.get(label, value))
    return greatest


def spooled(roles: Iterable[RoleStatus]) -> tuple[LabelledValues, float]:
    """What receivers say of their spools: events by address, and for how many seconds the oldest of all has waited."""
    receivers = [role for role in roles if role.by_label(_SPOOLED)]
    entries = {role.url: sum(role.by_label(_SPOOLED).values()) for role in receivers}
    return entries, max(greatest_by_label(receivers, _SPOOLED_FOR).values(), default=0.0)


async def _resolve_all(text: str) -> list[str]:
    url = URL(text)
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            url.host, url.port, family=socket.AF_INET, type=socket.SOCK_STREAM
        )
    except OSError:
        return [text]  # the request will report the error
    hosts = sorted({str(address[0]) for *_, address in found})
    return [text] if len(hosts) < 2 else [str(url.with_host(host)) for host in hosts]  # noqa: PLR2004 -- one is itself


async def _ask(session: aiohttp.ClientSession, url: str) -> RoleStatus:
    base = url.removesuffix("/metrics")
    try:
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            async with session.get(f"{base}/metrics") as answer:
                answer.raise_for_status()
                text = await answer.text()
            async with session.get(f"{base}/readyz") as answer:
                ready, parts = answer.ok, orjson.loads(await answer.read())
            async with session.get(f"{base}/livez") as answer:
                life = orjson.loads(await answer.read())
        counts = _read(text)
    except TimeoutError:
        return RoleStatus(base, f"no answer in {_TIMEOUT_SECONDS:g} s")
    except (aiohttp.ClientError, OSError) as error:
        return RoleStatus(base, connect_failure(error))
    except ValueError:
        return RoleStatus(base, "the answer is not one of a receiver, worker or API")
    reasons = _reasons(parts) + _reasons({"livez": life})
    return RoleStatus(
        base,
        kind=_kind(parts),
        ready=ready,
        reasons=tuple(reasons),
        counts=counts,
        bridge=read_identity(_part(parts, BRIDGE)),
        unconfirmed=_unconfirmed(parts),
        settings=_part(parts, SETTINGS) or {},
    )


def without_others(seen: Iterable[RoleStatus], own: Identity) -> list[RoleStatus]:
    """A role of another bridge becomes a problem without numbers, so that its events are not counted as ours."""
    return [
        RoleStatus(
            role.url,
            problem=f"what answers there is a {role.kind} of another bridge ({role.bridge}); {_WHERE}",
        )
        if role.bridge is not None and role.bridge.is_another_than(own)
        else role
        for role in seen
    ]


def _read(text: str) -> dict[str, LabelledValues]:
    """The samples that we show. Raises ValueError for text that is not Prometheus's format."""
    counts: dict[str, LabelledValues] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            label, wanted = _ONLY.get(sample.name, ("", None))
            if sample.name in _LABELS and sample.labels.get(label) == wanted:
                tally = counts.setdefault(sample.name, {})
                key = sample.labels.get(_LABELS[sample.name], "")
                tally[key] = tally.get(key, 0) + sample.value
    return counts


def _part(parts: Any, name: str) -> Any:
    """A part of `/readyz`. Of several processes, which all have the same, the first that says it."""
    return next(iter(_each(parts, name)), None)


def _unconfirmed(parts: Any) -> tuple[str, ...]:
    """What any of its processes says: each has a spool and a connection of its own."""
    said = [broker.get(_UNCONFIRMED) for broker in _each(parts, "broker")]
    return tuple(sorted({str(name) for names in said if isinstance(names, list) for name in names}))


def _each(parts: Any, name: str) -> list[dict[str, Any]]:
    """A part of `/readyz`, as each process has it."""
    if not isinstance(parts, dict):
        return []
    processes = parts.get("processes")
    documents = [parts, *processes.values()] if isinstance(processes, dict) else [parts]
    return [one[name] for one in documents if isinstance(one, dict) and isinstance(one.get(name), dict)]


def _kind(parts: Any) -> str:
    """A receiver has a spool, a supervisor has processes, a worker consumes, an API has tokens and a database."""
    if not isinstance(parts, dict):
        return "?"
    if {"spool", "processes"} & parts.keys():
        return "receiver"
    if "consume" in parts:
        return "worker"
    return "api" if {"tokens", "database"} <= parts.keys() else "?"


def _reasons(parts: Any, path: str = "") -> list[str]:
    """Every `reason` beside an unhealthy state, at any depth: a supervisor's answer nests its processes.

    A receiver whose publishes are all refused has a connection that is up, with `refused` beside it.
    """
    if not isinstance(parts, dict):
        return []
    found = []
    unwell = parts.get("state", "up") not in _HEALTHY_STATES or parts.get("writable", True) is False
    if path and (unwell or parts.get("status") in {"not ready", "stuck"}) and (reason := parts.get("reason")):
        found.append(f"{path}: {reason}")
    if path and isinstance(refused := parts.get("refused"), str):
        found.append(f"{path}: RabbitMQ refuses all publishes: {refused}")
    if path and isinstance(names := parts.get(_UNCONFIRMED), list):
        found.append(
            f"{path}: RabbitMQ confirms no event of these names: {', '.join(map(str, names))}; `bridge doctor` names the queue "
            "(`queues that confirm`)"
        )
    for name, part in parts.items():
        found.extend(_reasons(part, f"{path}.{name}" if path else str(name)))
    return found
