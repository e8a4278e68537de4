"""What `bridge status` prints for people."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from rich.console import Group
from rich.table import Column, Table
from rich.text import Text

from bridge.oncall.roles import ADMITTED, TOKENS
from bridge.telemetry.terminal import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bridge.oncall.broker import BrokerSeen, QueueSeen
    from bridge.oncall.roles import RoleSeen
    from bridge.oncall.spool import SpoolSeen
    from bridge.oncall.status import EventCount, Status

_UNSEEN: Final = "?"
_BREAKERS: Final = ("closed", "half-open", "open")
"""By the value of the metric."""


def screen(seen: Status) -> Group:
    """All of it; `?` is what cannot be seen."""
    verdict = Text("all is well", "green") if seen.well else Text("not well", "bold red")
    at = datetime.fromtimestamp(seen.at, UTC)
    lines = [Text.assemble(f"{at:%Y-%m-%d %H:%M:%S} UTC: ", verdict)]
    lines += [Text(f"  {one_line(line)}", "red") for line in seen.wrong]
    return Group(
        *lines,
        _roles(seen.roles),
        _events(seen.events),
        _broker(seen.broker),
        _queues(seen.broker.queues),
        _rest(seen),
        *(Text(f"cannot be seen: {one_line(line)}", "dim") for line in seen.unseen),
    )


def _roles(roles: Iterable[RoleSeen]) -> Table:
    table = _table("Role", "At", Column("State", overflow="fold"))
    for role in roles:
        if role.problem:
            table.add_row(_UNSEEN, role.url, Text(one_line(role.problem), "red"))
        else:
            state = Text("ready") if role.ready else Text("not ready", "red")
            table.add_row(role.kind, role.url, state.append(_tokens(role)))
    return table


def _tokens(role: RoleSeen) -> str:
    """Who rotates the webhook's token has to know this; otherwise there is one."""
    valid = int(role.tally(TOKENS).get("", 0))
    older = int(role.tally(ADMITTED).get("other", 0))
    return f"; {valid} tokens, {older:,} requests with the old" if valid > 1 else ""


def _events(events: Iterable[EventCount]) -> Table:
    table = _table("Event", *(Column(title, justify="right") for title in ("Total", "A second")))
    for event in events:
        table.add_row(
            Text(event.name), f"{event.total:,}", _UNSEEN if event.rate is None else f"{event.rate:,.1f}"
        )
    return table


def _broker(broker: BrokerSeen) -> Text:
    if broker.problem:
        return Text("RabbitMQ: not reachable", "red")
    line = f"RabbitMQ {broker.version}: "
    if broker.nodes is None:
        return Text(f"{line}nodes and alarms {_UNSEEN}")
    nodes = ", ".join(
        f"{node.name} {'runs' if node.running else 'is down'}"
        + (f" ({' and '.join(node.alarms)} alarm)" if node.alarms else "")
        for node in broker.nodes
    )
    return Text(line + nodes)


def _queues(queues: Iterable[QueueSeen]) -> Table:
    titles = ("Ready", "Unacknowledged", "Consumers", "Oldest")
    table = _table("Queue", *(Column(title, justify="right") for title in titles))
    for queue in queues:
        name = Text(queue.name)
        if queue.problem:
            name.append(" (not there)", "red")
        table.add_row(
            name,
            *(_number(value) for value in (queue.ready, queue.unacknowledged, queue.consumers)),
            _UNSEEN if queue.oldest_age is None else f"{queue.oldest_age:,.0f} s",
        )
    return table


def _rest(seen: Status) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_row("Spool", _spool(seen.spool))
    table.add_row("Workers", _number(seen.workers))
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in sorted(seen.dead_by_reason.items()))
    counted = f"; moved there since the workers' start: {reasons}" if reasons else ""
    table.add_row("Dead letters", Text(f"{_number(seen.dead_letters)} wait{counted}"))
    table.add_row("Quarantine", _number(seen.quarantined))
    breakers = ", ".join(
        f"{name} {_BREAKERS[min(int(state), len(_BREAKERS) - 1)]}"
        for name, state in sorted(seen.breakers.items())
    )
    table.add_row("Breakers", Text(breakers or _UNSEEN))
    return table


def _table(*columns: Column | str) -> Table:
    """Without lines: all of it has to fit on one screen."""
    return Table(*columns, box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")


def _spool(seen: SpoolSeen | None) -> Text:
    if seen is None:
        return Text(_UNSEEN)
    oldest = "" if seen.oldest_age is None else f", the oldest for {seen.oldest_age:,.0f} s"
    return Text(f"{seen.entries:,} events, {seen.bytes:,} bytes in {seen.files} files{oldest}")


def _number(value: int | None) -> str:
    return _UNSEEN if value is None else f"{value:,}"
