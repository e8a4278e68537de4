"""A change of the list, as it is kept and as other services get it. It needs no database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import orjson

from bridge.timestamps import rfc3339

if TYPE_CHECKING:
    from bridge.suppression.policy import Reason

Action = Literal["added", "updated", "removed", "expired", "allowed", "disallowed", "erased"]


class Change(NamedTuple):
    """One entry of the change log."""

    id: int
    """Ascending in the order in which changes become visible: whoever has read up to one has not missed an earlier one."""
    at: int
    """When the list was changed, in Unix seconds (not when the event happened)."""
    action: Action
    address: str
    """Normalised; of a change of the allow-list, the address or domain of the rule."""
    reason: Reason | None
    """None for a change of the allow-list."""
    actor: str
    note: str
    event_id: str | None
    """None if a person made the change."""
    message_id: str | None
    evidence: bytes | None
    """The event as the provider sent it; for a removal, the one that had caused the entry."""
    published_at: int | None
    reasons: tuple[Reason, ...] | None = None
    """Those for which the address is suppressed after this change; None: it was made before this was kept."""
    trace: str | None = None
    """Context of the trace that it belongs to, as `TraceContext.text`."""

    def document(self) -> dict[str, Any]:
        """Everything but the evidence, ready for JSON; times in RFC 3339. This is what other services get."""
        document: dict[str, Any] = {
            "id": self.id,
            "action": self.action,
            "address": self.address,
            "reason": None if self.reason is None else str(self.reason),
            "at": rfc3339(self.at),
            "actor": self.actor,
            "note": self.note,
            "event_id": self.event_id,
            "message_id": self.message_id,
        }
        if self.reasons is not None:
            document["still_suppressed"] = bool(self.reasons)
            document["reasons"] = list(map(str, self.reasons))
        return document

    def body(self) -> bytes:
        """The document as JSON: the body of the message to other services."""
        return orjson.dumps(self.document())
