"""The output of `bridge status` for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from rich.cells import cell_len
from rich.console import Group
from rich.table import Table
from rich.text import Text

from bridge.cli.columns import column_widths, wrap
from bridge.cli.console import terminal
from bridge.cli.lists import Cell
from bridge.cli.times import age_cell, duration_text, utc_text
from bridge.diagnostics.role_status import ADMITTED, TOKENS
from bridge.telemetry.terminal import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rich.console import JustifyMethod, RenderableType

    from bridge.diagnostics.broker_status import BrokerStatus, QueueStatus
    from bridge.diagnostics.role_status import RoleStatus
    from bridge.diagnostics.spool_status import SpoolStatus
    from bridge.diagnostics.status import AnswerCount, EventCount, Status
    from bridge.diagnostics.subscriber_status import SubscriberStatus

_UNSEEN: Final = "?"
_BETWEEN: Final = 2
"""Blanks between two columns."""
_INDENT: Final = 4
"""Blanks before what goes on below a line."""
_BREAKERS: Final = ("closed", "half-open", "open")
"""By the value of the metric."""
_NAMES: Final = frozenset({"Role", "At", "Event", "Queue", "Subscriber"})
"""Columns that are there to be copied: nothing in them is broken."""
_NUMBERS: Final = frozenset(
    {
        "Total",
        "A second",
        "Ready",
        "Unacknowledged",
        "Consumers",
        "Oldest",
        "Dead letters",
        "Not consumed for",
    }
)


_SUBSCRIBER: Final = (
    "Subscriber", "Ready", "Unacknowledged", "Consumers", "Dead letters", "Oldest", "Not consumed for"
)  # fmt: skip


class Grid(NamedTuple):
    """Rows that belong together."""

    heads: tuple[str, ...]
    """There may be none."""
    rows: list[tuple[Text | str | Cell, ...]]


def status_view(seen: Status) -> Group:
    """All of it, for a terminal; `?` is what cannot be seen."""
    return Group(*(_table(part) if isinstance(part, Grid) else _wrapped(part) for part in _parts(seen)))


def lines(seen: Status) -> Iterator[str]:
    """The same where it is no terminal: rows with tabs, and never broken."""
    for part in _parts(seen):
        if isinstance(part, Text):
            yield part.plain
            continue
        yield ""
        if part.heads:
            yield "\t".join(part.heads)
        for row in part.rows:
            yield "\t".join(one_line(str(cell.exact if isinstance(cell, Cell) else cell)) for cell in row)


def _parts(seen: Status) -> Iterator[Text | Grid]:
    verdict = Text("all is well", "green") if seen.well else Text("not well", "bold red")
    yield Text.assemble(f"{utc_text(seen.at)} UTC: ", verdict)
    for line in seen.wrong:
        yield Text(f"  {one_line(line)}", "red")
    yield Grid(("Role", "At", "State"), [_role(role) for role in seen.roles])
    yield Grid(("Event", "Total", "A second"), [_event(event) for event in seen.events])
    yield Grid((), [("Answers", _answers(seen.answers)), ("From event to list", _age(seen))])
    yield _broker(seen.broker)
    of_others = _queues_of(seen.subscribers)
    queues = [queue for queue in seen.broker.queues if queue.name not in of_others]
    ages_known = any(queue.oldest_age is not None for queue in queues)
    yield Grid(
        ("Queue", "Ready", "Unacknowledged", "Consumers", *(["Oldest"] if ages_known else [])),
        [_queue(queue, with_age=ages_known) for queue in queues],
    )
    if seen.subscribers:
        yield Grid(_SUBSCRIBER, [_subscriber(one) for one in seen.subscribers])
    yield Grid((), _rest(seen))
    for line in seen.unseen:
        yield Text(f"not known: {one_line(line)}", "dim")


def _role(role: RoleStatus) -> tuple[Text | str | Cell, ...]:
    if role.problem:
        return _UNSEEN, role.url, Text(one_line(role.problem), "red")
    state = Text("ready") if role.ready else Text("not ready", "red")
    return role.kind, role.url, state.append(_tokens(role))


def _tokens(role: RoleStatus) -> str:
    """Who rotates the webhook's token has to know this; otherwise there is one."""
    valid = int(role.by_label(TOKENS).get("", 0))
    older = int(role.by_label(ADMITTED).get("other", 0))
    return f"; {valid} tokens, {older:,} requests with the old" if valid > 1 else ""


def _event(event: EventCount) -> tuple[Text | str | Cell, ...]:
    rate = _UNSEEN if event.rate is None else Cell(f"{event.rate:,.1f}", f"{event.rate:.1f}")
    return event.name, _number(event.total), rate


def _answers(answers: Iterable[AnswerCount]) -> str:
    shown = (
        f"{one.answer} {one.total:,}" + ("" if one.rate is None else f" ({one.rate:,.1f} a second)")
        for one in answers
    )
    return ", ".join(shown) or _UNSEEN


def _age(seen: Status) -> str:
    if seen.age is None:
        return "no event was handled between the two looks"
    return f"half of the events within {seen.age.median:.1f} s, 95% within {seen.age.most:.1f} s"


def _broker(broker: BrokerStatus) -> Text:
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


def _queue(queue: QueueStatus, *, with_age: bool) -> tuple[Text | str | Cell, ...]:
    name = Text(one_line(queue.name))
    if queue.problem:
        name.append(" (not there)", "red")
    return (
        name,
        *(_number(value) for value in (queue.ready, queue.unacknowledged, queue.consumers)),
        *([_UNSEEN if queue.oldest_age is None else age_cell(queue.oldest_age)] if with_age else []),
    )


def _subscriber(one: SubscriberStatus) -> tuple[Text | str | Cell, ...]:
    name = Text(one_line(one.queue))
    if not one.there:
        name.append(" (not there)", "red")
    return (
        name,
        *(_number(value) for value in (one.ready, one.unacknowledged, one.consumers, one.dead_letters)),
        *(_waited(value, one) for value in (one.oldest_age, one.idle)),
    )


def _waited(seconds: float | None, one: SubscriberStatus) -> str | Cell:
    if one.is_empty:
        return Cell("-", 0)
    return _UNSEEN if seconds is None else age_cell(seconds)


def _queues_of(subscribers: Iterable[SubscriberStatus]) -> set[str]:
    """Both of each: they have a table of their own."""
    return {name for one in subscribers for name in (one.queue, one.dead_queue)}


def _rest(seen: Status) -> list[tuple[Text | str | Cell, ...]]:
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in sorted(seen.dead_by_reason.items()))
    counted = f"; moved since the workers' start: {reasons}" if reasons else ""
    breakers = ", ".join(
        f"{name} {_BREAKERS[min(int(state), len(_BREAKERS) - 1)]}"
        for name, state in sorted(seen.breakers.items())
    )
    return [
        ("Spool", _spool(seen.spool)),
        ("Workers", _number(seen.workers)),
        (
            "Dead letters of the worker",
            f"{_UNSEEN if seen.dead_letters is None else f'{seen.dead_letters:,}'} wait{counted}",
        ),
        ("Quarantine", _number(seen.quarantined)),
        ("Breakers", breakers or _UNSEEN),
    ]


def _wrapped(line: Text) -> Text:
    """A line that is too long goes on below, behind its own indent."""
    indent = " " * (cell_len(line.plain) - cell_len(line.plain.lstrip()) + _INDENT)
    first, *others = wrap(line.plain, terminal.width - len(indent))
    if not others:
        return line
    lines = [indent[_INDENT:] + first, *(indent + other for other in others)]
    return Text("\n".join(lines), line.style or (line.spans[-1].style if line.spans else ""))


def _table(grid: Grid) -> RenderableType:
    """A table without lines: everything has to fit on one screen."""
    rows = [[_shown(cell) for cell in row] for row in grid.rows]
    if not grid.heads:
        table = Table.grid(padding=(0, _BETWEEN, 0, 0))
    else:
        columns = [[head, *(row[at].plain for row in rows)] for at, head in enumerate(grid.heads)]
        available = terminal.width - _BETWEEN * len(columns)
        chosen = column_widths(columns, [head in _NAMES for head in grid.heads], available, parts=False)
        if chosen is None:
            return _records(grid.heads, rows)
        table = Table(box=None, pad_edge=False, padding=(0, _BETWEEN, 0, 0), header_style="bold")
        for head, width in zip(grid.heads, chosen, strict=True):
            justify: JustifyMethod = "right" if head in _NUMBERS else "left"
            table.add_column(head, justify=justify, overflow="fold", no_wrap=head in _NAMES, width=width)
    for row in rows:
        table.add_row(*row)
    return table


def _records(heads: tuple[str, ...], rows: list[list[Text]]) -> Text:
    """Where names would not fit beside each other: each row as lines."""
    width = max(map(len, heads)) + _BETWEEN
    lines = [
        _wrapped(Text.assemble(f"{head:<{width}}", cell))
        for row in rows
        for head, cell in zip(heads, row, strict=True)
    ]
    return Text("\n").join(lines)


def _shown(cell: Text | str | Cell) -> Text:
    if isinstance(cell, Text):
        return cell
    return Text(one_line(cell.shown if isinstance(cell, Cell) else cell))


def _spool(seen: SpoolStatus | None) -> str:
    if seen is None:
        return _UNSEEN
    oldest = "" if seen.oldest_age is None else f", the oldest for {duration_text(seen.oldest_age)}"
    return f"{seen.entries:,} events, {seen.bytes:,} bytes in {seen.files} files{oldest}"


def _number(value: int | None) -> str | Cell:
    return _UNSEEN if value is None else Cell(f"{value:,}", value)
