"""The doctor's check for policies that make RabbitMQ drop messages of our queues."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bridge.broker.management import ManagementError
from bridge.broker.rejecting_queues import policies_of
from bridge.diagnostics.finding import ok, skipped, warning

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bridge.broker.management_views import QueueView
    from bridge.diagnostics.broker_checks import BrokerContext
    from bridge.diagnostics.finding import Finding

_MILLISECONDS: Final = 1000
_LENGTHS: Final = {"max-length": "messages", "max-length-bytes": "bytes"}
_UNSEEN: Final = "message-ttl, expires, max-length, max-length-bytes, max-age, overflow"
_ADVICE: Final = (
    "exclude the bridge's queues: narrow the policy's pattern (rabbitmqctl set_policy or set_operator_policy), or remove it "
    "(clear_policy, clear_operator_policy)"
)


async def policies(check: str, context: BrokerContext) -> Finding:
    """No policy drops messages of our queues. Policies apply beside our arguments, and declaring does not show them."""
    own = [queue.name for queue in context.planned.queues if not queue.of_subscriber]
    try:
        views = [await context.management.queue(name) for name in own]
    except ManagementError as blind:
        return skipped(check, f"policies ({_UNSEEN}) on {', '.join(own)} cannot be seen: {blind}")
    harmful = [
        f"queue '{view.name}' {effect}, by {policies_of(view)}"
        for view in views
        if view is not None
        for effect in _effects(view)
    ]
    if harmful:
        return warning(check, "; ".join(harmful), _ADVICE)
    return ok(check, "no policy drops messages of our queues")


def _effects(view: QueueView) -> Iterator[str]:
    """The harmful effects on messages and on the queue."""
    given = view.policies
    if (expires := given.get("expires")) is not None:
        yield f"is deleted with its messages when nobody uses it for {_seconds(expires)} (expires)"
    if view.kind == "stream":
        yield from _effects_on_a_stream(view)
        return
    dead_letters = view.arguments.get("x-dead-letter-routing-key")
    drops, to = ("moves", f" to '{dead_letters}'") if dead_letters else ("drops", "")
    ttl = given.get("message-ttl")
    if isinstance(ttl, int) and ttl < view.arguments.get("x-message-ttl", ttl + 1):
        yield f"{drops} messages after {_seconds(ttl)}{to} (message-ttl)"
    if "reject" in str(overflow := given.get("overflow", view.arguments.get("x-overflow", "drop-head"))):
        return
    for name, unit in _LENGTHS.items():
        if (most := given.get(name)) is not None:
            yield f"{drops} its oldest messages{to} beyond {most} {unit} ({name}, {overflow})"
    if dead_letters and "overflow" in given:
        yield f"may lose messages that it dead-letters to '{dead_letters}' (overflow: {overflow})"


def _effects_on_a_stream(view: QueueView) -> Iterator[str]:
    if (age := view.policies.get("max-age")) is not None and age != view.arguments.get("x-max-age"):
        yield f"keeps events only for {age} (max-age)"
    most = view.policies.get("max-length-bytes")
    if isinstance(most, int) and most < view.arguments.get("x-max-length-bytes", most + 1):
        yield f"keeps only {most} bytes (max-length-bytes)"


def _seconds(milliseconds: object) -> str:
    """Milliseconds of a policy, as text in seconds."""
    return f"{milliseconds / _MILLISECONDS:g} s" if isinstance(milliseconds, int) else str(milliseconds)
