"""How `bridge topology plan` shows differences: a line each, coloured on a terminal, or one JSON document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from bridge.broker.topology_diff import BINDING, EXCHANGE, QUEUE
from bridge.cli.console import print_to_stderr, terminal
from bridge.cli.lists import Head, print_rows
from bridge.text import collapse

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from bridge.broker.topology import Binding, Topology
    from bridge.broker.topology_diff import Difference, Stray, TopologyDiff
    from bridge.operations.topology import Pruned
    from bridge.operations.topology_migration import Moved

_CREATE: Final = ("+", "green")
_DIFFERS: Final = ("~", "yellow")
_STRAY: Final = ("-", "red")


def print_planned(planned: Topology) -> None:
    """All that is planned, as a table."""
    rows = [
        (f"{exchange.kind} exchange", exchange.name, _arguments(exchange.arguments))
        for exchange in planned.exchanges
    ]
    rows += [("queue", queue.name, _arguments(queue.arguments)) for queue in planned.queues]
    rows += [("binding", _bound(binding), binding.key) for binding in planned.bindings]
    print_rows(("Kind", Head("Name", whole=True), Head("Arguments", min_width=10)), rows)


def print_diff(diff: TopologyDiff, planned: Topology) -> None:
    """`+` is missing, `~` stands with other arguments, `-` stands and is not planned; and how many there are of each."""
    for exchange in diff.exchanges:
        _line(_CREATE, EXCHANGE, exchange.name, f"{exchange.kind} {_arguments(exchange.arguments)}")
    for queue in diff.queues:
        _line(_CREATE, QUEUE, queue.name, _arguments(queue.arguments))
    for binding in diff.bindings:
        _line(_CREATE, BINDING, _bound(binding), binding.key)
    for differing in diff.differs:
        changes = ", ".join(_change(one) for one in differing.differences) or differing.note
        _line(_DIFFERS, differing.kind, differing.name, changes)
    for name in diff.unfinished:
        _line(
            _DIFFERS, QUEUE, name, "its move was interrupted: `bridge topology apply --migrate` finishes it"
        )
    print_strays(diff.strays)
    if diff.is_empty:
        counts = f"{len(planned.exchanges)} exchanges, {len(planned.queues)} queues"
        bindings = "" if diff.unseen else f", {len(planned.bindings)} bindings"
        terminal.print(f"nothing differs: {counts}{bindings} exist as planned")
        return
    differ = len({one.name for one in diff.differs} | set(diff.unfinished))
    terminal.print(f"{diff.creates} to create, {differ} to change, {len(diff.strays)} to remove")
    if diff.creates:
        print_to_stderr("`bridge topology apply` creates what is missing")
    if differ:
        print_to_stderr("`bridge topology apply --migrate` moves a queue to its planned arguments")
    if diff.strays:
        print_to_stderr("`bridge topology apply --prune` removes what is not planned")


def print_strays(strays: Iterable[Stray]) -> None:
    """A line each."""
    for stray in strays:
        if stray.binding is not None:
            _line(_STRAY, BINDING, _bound(stray.binding), stray.binding.key)
        else:
            in_use = f"{stray.messages:,} messages, {stray.consumers:,} consumers"
            _line(_STRAY, stray.kind, stray.name, in_use if stray.kind == QUEUE else "")


def print_moved(moved: Iterable[Moved]) -> None:
    """What was moved; an error says what was not."""
    for one in moved:
        if not one.refused:
            terminal.print(f"queue {one.name}: moved, with {one.messages:,} messages out of it and back")


def print_pruned(pruned: Iterable[Pruned]) -> None:
    """What was removed, and what was not, and why."""
    for one in pruned:
        name = one.stray.name if one.stray.binding is None else _bound(one.stray.binding)
        key = f" {one.stray.binding.key}" if one.stray.binding is not None else ""
        outcome = f"kept: {one.kept}" if one.kept else "removed"
        terminal.print(f"{one.stray.kind} {name}{key}: {outcome}")


def diff_document(diff: TopologyDiff, note: str | None) -> dict[str, Any]:
    """The same for programs."""
    return {
        "create": [
            *(
                {"kind": EXCHANGE, "name": one.name, "type": one.kind, "arguments": dict(one.arguments)}
                for one in diff.exchanges
            ),
            *({"kind": QUEUE, "name": one.name, "arguments": dict(one.arguments)} for one in diff.queues),
            *(_binding_document(one) for one in diff.bindings),
        ],
        "differs": [
            {
                "kind": one.kind,
                "name": one.name,
                "differences": [difference._asdict() for difference in one.differences],
                "note": one.note or None,
            }
            for one in diff.differs
        ],
        "unfinished": list(diff.unfinished),
        "stray": [_stray_document(one) for one in diff.strays],
        "unseen": diff.unseen or None,
        "note": note,
    }


def moved_documents(moved: Iterable[Moved]) -> list[dict[str, Any]]:
    """The same as `print_moved` for programs."""
    return [{"name": one.name, "messages": one.messages, "refused": one.refused or None} for one in moved]


def pruned_documents(pruned: Iterable[Pruned]) -> list[dict[str, Any]]:
    """The same as `print_pruned` for programs."""
    return [_stray_document(one.stray) | {"kept": one.kept or None} for one in pruned]


def _stray_document(stray: Stray) -> dict[str, Any]:
    if stray.binding is not None:
        return _binding_document(stray.binding)
    document: dict[str, Any] = {"kind": stray.kind, "name": stray.name}
    if stray.kind == QUEUE:
        document |= {"messages": stray.messages, "consumers": stray.consumers}
    return document


def _binding_document(binding: Binding) -> dict[str, Any]:
    return {"kind": BINDING, "name": binding.queue, "exchange": binding.exchange, "key": binding.key}


def _line(mark: tuple[str, str], kind: str, name: str, rest: str) -> None:
    sign, style = mark
    terminal.print(collapse(f"{sign} {kind} {name}  {rest}"), style=style)


def _change(difference: Difference) -> str:
    return f"{difference.argument}: {_value(difference.stands)} → {_value(difference.wanted)}"


def _value(value: Any) -> str:
    return "none" if value is None else str(value) or "''"


def _bound(binding: Binding) -> str:
    return f"{binding.exchange} → {binding.queue}"


def _arguments(arguments: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in arguments.items())
