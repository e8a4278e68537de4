"""The doctor's look for policies that have RabbitMQ throw away what our queues hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bridge.broker.management import ManagementError
from bridge.diagnostics.finding import ok, skipped, warning

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bridge.broker.management import QueueView
    from bridge.diagnostics.broker_checks import Bench
    from bridge.diagnostics.finding import Finding

_MILLISECONDS: Final = 1000
_LENGTHS: Final = {"max-length": "messages", "max-length-bytes": "bytes"}
_UNSEEN: Final = "message-ttl, expires, max-length, max-length-bytes, max-age, overflow"
_ADVICE: Final = (
    "leave the bridge's queues out of it: narrow its pattern (rabbitmqctl set_policy or set_operator_policy), or clear it "
    "(clear_policy, clear_operator_policy)"
)


async def policies(check: str, bench: Bench) -> Finding:
    """What an operator sets for all queues is in force beside our arguments, and declaring says nothing of it."""
    own = [queue.name for queue in bench.planned.queues if not queue.of_subscriber]
    try:
        views = [await bench.management.queue(name) for name in own]
    except ManagementError as blind:
        return skipped(check, f"policies ({_UNSEEN}) on {', '.join(own)} cannot be seen: {blind}")
    harmful = [
        f"queue '{view.name}' {effect}, by {_source(view)}"
        for view in views
        if view is not None
        for effect in _effects(view)
    ]
    if harmful:
        return warning(check, "; ".join(harmful), _ADVICE)
    return ok(check, "no policy throws away what our queues hold")


def _effects(view: QueueView) -> Iterator[str]:
    """What becomes of messages, and of the queue."""
    given = view.policies
    if (expires := given.get("expires")) is not None:
        yield f"is deleted with all that is in it when nobody uses it for {_seconds(expires)} (expires)"
    if view.kind == "stream":
        yield from _effects_on_a_stream(view)
        return
    dead_letters = view.arguments.get("x-dead-letter-routing-key")
    away = f"to '{dead_letters}'" if dead_letters else "away"
    ttl = given.get("message-ttl")
    if isinstance(ttl, int) and ttl < view.arguments.get("x-message-ttl", ttl + 1):
        yield f"throws what has waited for {_seconds(ttl)} {away} (message-ttl)"
    if "reject" in str(overflow := given.get("overflow", view.arguments.get("x-overflow", "drop-head"))):
        return
    for name, unit in _LENGTHS.items():
        if (most := given.get(name)) is not None:
            yield f"throws its oldest {away} beyond {most} {unit} ({name}, {overflow})"
    if dead_letters and "overflow" in given:
        yield f"may lose what it passes on to '{dead_letters}' (overflow: {overflow})"


def _effects_on_a_stream(view: QueueView) -> Iterator[str]:
    if (age := view.policies.get("max-age")) is not None and age != view.arguments.get("x-max-age"):
        yield f"keeps events for {age} at the most (max-age)"
    most = view.policies.get("max-length-bytes")
    if isinstance(most, int) and most < view.arguments.get("x-max-length-bytes", most + 1):
        yield f"keeps {most} bytes (max-length-bytes)"


def _source(view: QueueView) -> str:
    """The names by which somebody finds it. RabbitMQ does not say which of two it has a part from."""
    named = [("policy", view.policy), ("operator policy", view.operator_policy)]
    return " and ".join(f"{kind} '{name}'" for kind, name in named if name) or "a policy"


def _seconds(milliseconds: object) -> str:
    """Policies have milliseconds."""
    return f"{milliseconds / _MILLISECONDS:g} s" if isinstance(milliseconds, int) else str(milliseconds)
