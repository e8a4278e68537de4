"""What receivers and workers say of themselves, at their health addresses."""

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

from bridge.broker.management import refusal
from bridge.roles.identity import BRIDGE, SETTINGS, read_identity
from bridge.roles.receiver import RECEIVER_HEALTH_PORT
from bridge.roles.worker import WORKER_HEALTH_PORT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from bridge.roles.identity import Identity
    from bridge.settings.sections import Health

Tally = dict[str, float]
"""Label value -> number."""

TOKENS: Final = "bridge_tokens"
ADMITTED: Final = "bridge_requests_admitted_total"

_LABELS: Final = {
    "bridge_events_received_total": "name",
    "bridge_events_handled_total": "outcome",
    "bridge_dead_letters_total": "reason",
    "bridge_breaker_state": "dependency",
    "bridge_backfill_events_total": "",
    TOKENS: "",
    ADMITTED: "token",
}
"""What is read of each role: the sample, and the label it is told apart by, if it has one."""

_PATIENCE_SECONDS: Final = 3.0
"""For all that is asked of one role."""

_WHERE: Final = "say where this one's is, with --metrics or health.roles (BRIDGE_HEALTH__ROLES)"

_WELL: Final = frozenset({"up", "closed"})
"""States of a connection and of a circuit breaker."""

_EVERY_ADDRESS: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 -- looked up, not bound


@dataclass(frozen=True, slots=True)
class RoleSeen:
    """One receiver or worker."""

    url: str
    problem: str = ""
    """Why it cannot be read; empty when it can."""
    kind: str = "?"
    """`receiver`, `worker`, or `?` when it cannot be told."""
    ready: bool = False
    reasons: tuple[str, ...] = ()
    """What `/readyz` says of parts that are not well."""
    counts: Mapping[str, Tally] = field(default_factory=dict)
    """Sample name -> tally."""
    bridge: Identity | None = None
    """Whose it is; None where it does not say."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """`file` and `fingerprint` of the settings file that it was started with; empty where it has none."""

    def tally(self, name: str) -> Tally:
        return dict(self.counts.get(name, {}))


def addresses(health: Health) -> list[str]:
    """Where roles of these settings serve their health: as `health.roles` says, or else on this machine."""
    if health.roles:
        return list(health.roles)
    host = _EVERY_ADDRESS.get(health.host, health.host)
    ports = [health.port] if health.port else [RECEIVER_HEALTH_PORT, WORKER_HEALTH_PORT]
    return [str(URL.build(scheme="http", host=host, port=port)) for port in ports]


async def ask_all(session: aiohttp.ClientSession, urls: Iterable[str]) -> list[RoleSeen]:
    """Each role at once; one that does not answer has a problem instead of numbers.

    A host name that stands for several addresses stands for so many roles: Compose's `worker` is all workers.
    """
    found = await asyncio.gather(*(_everyone(url.rstrip("/")) for url in urls))
    return list(await asyncio.gather(*(_ask(session, url) for some in found for url in some)))


def summed(roles: Iterable[RoleSeen], name: str) -> Tally:
    """The same counter of all of them, added up; without what has never happened."""
    total: defaultdict[str, float] = defaultdict(float)
    for role in roles:
        for label, value in role.tally(name).items():
            total[label] += value
    return {label: value for label, value in total.items() if value}


async def _everyone(text: str) -> list[str]:
    url = URL(text)
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            url.host, url.port, family=socket.AF_INET, type=socket.SOCK_STREAM
        )
    except OSError:
        return [text]  # the call that follows says what is wrong with it
    hosts = sorted({str(address[0]) for *_, address in found})
    return [text] if len(hosts) < 2 else [str(url.with_host(host)) for host in hosts]  # noqa: PLR2004 -- one is itself


async def _ask(session: aiohttp.ClientSession, url: str) -> RoleSeen:
    base = url.removesuffix("/metrics")
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            async with session.get(f"{base}/metrics") as answer:
                answer.raise_for_status()
                text = await answer.text()
            async with session.get(f"{base}/readyz") as answer:
                ready, parts = answer.ok, orjson.loads(await answer.read())
            async with session.get(f"{base}/livez") as answer:
                life = orjson.loads(await answer.read())
        counts = _read(text)
    except TimeoutError:
        return RoleSeen(base, f"no answer in {_PATIENCE_SECONDS:g} s")
    except (aiohttp.ClientError, OSError) as error:
        return RoleSeen(base, refusal(error))
    except ValueError:
        return RoleSeen(base, "what answers there is neither a receiver nor a worker")
    reasons = _reasons(parts) + _reasons({"livez": life})
    return RoleSeen(
        base,
        kind=_kind(parts),
        ready=ready,
        reasons=tuple(reasons),
        counts=counts,
        bridge=read_identity(_part(parts, BRIDGE)),
        settings=_part(parts, SETTINGS) or {},
    )


def without_others(seen: Iterable[RoleSeen], own: Identity) -> list[RoleSeen]:
    """Of a role of another bridge nothing is left but what it is: none of its numbers are ours."""
    return [
        RoleSeen(
            role.url,
            problem=f"what answers there is a {role.kind} of another bridge ({role.bridge}); {_WHERE}",
        )
        if role.bridge is not None and role.bridge.is_another_than(own)
        else role
        for role in seen
    ]


def _read(text: str) -> dict[str, Tally]:
    """The samples that we show. The library raises ValueError for what is no exposition."""
    counts: dict[str, Tally] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name in _LABELS:
                tally = counts.setdefault(sample.name, {})
                key = sample.labels.get(_LABELS[sample.name], "")
                tally[key] = tally.get(key, 0) + sample.value
    return counts


def _part(parts: Any, name: str) -> Any:
    """A part of `/readyz`. Of a crew, all of whose processes have the same, the first that says it."""
    if not isinstance(parts, dict):
        return None
    processes = parts.get("processes")
    of_all = [parts, *processes.values()] if isinstance(processes, dict) else [parts]
    return next(
        (one[name] for one in of_all if isinstance(one, dict) and isinstance(one.get(name), dict)), None
    )


def _kind(parts: Any) -> str:
    """A receiver has a spool, a crew of them its processes; a worker consumes."""
    if not isinstance(parts, dict):
        return "?"
    if {"spool", "processes"} & parts.keys():
        return "receiver"
    return "worker" if "consume" in parts else "?"


def _reasons(parts: Any, path: str = "") -> list[str]:
    """Every `reason` beside a state that is not well, however deep a crew's processes nest it.

    A receiver whose every publish is refused has a connection that is up, and `refused` beside it.
    """
    if not isinstance(parts, dict):
        return []
    found = []
    unwell = parts.get("state", "up") not in _WELL or parts.get("writable", True) is False
    if path and (unwell or parts.get("status") in {"not ready", "stuck"}) and (reason := parts.get("reason")):
        found.append(f"{path}: {reason}")
    if path and isinstance(refused := parts.get("refused"), str):
        found.append(f"{path}: RabbitMQ refuses what is published: {refused}")
    for name, part in parts.items():
        found.extend(_reasons(part, f"{path}.{name}" if path else str(name)))
    return found
