"""Policies of RabbitMQ as its management API lists them, and which of them are in force on a queue."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from bridge.broker.management_views import mapping_at

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_QUORUM_QUEUES: Final = frozenset({"all", "queues", "quorum_queues"})
"""What a policy says it is for, if it is for quorum queues, too."""


@dataclass(frozen=True, slots=True)
class PolicyView:
    """A policy of the virtual host."""

    name: str
    operator: bool
    """Whether it is an operator policy: one of these is in force beside one of the others."""
    pattern: str
    applies_to: str
    """`all`, `queues`, `quorum_queues`, `exchanges` and so on."""
    priority: int
    definition: Mapping[str, Any]

    def matches_quorum_queue(self, name: str) -> bool:
        """Whether it is for the quorum queue of this name. RabbitMQ's patterns are Perl's, which hardly differ from Python's."""
        if self.applies_to not in _QUORUM_QUEUES:
            return False
        try:
            return re.search(self.pattern, name) is not None
        except re.error:
            return False


def read_policy(found: Mapping[str, Any], *, operator: bool) -> PolicyView:
    """A policy of `/api/policies/VHOST`, or an operator policy of `/api/operator-policies/VHOST`."""
    priority = found.get("priority")
    return PolicyView(
        name=str(found.get("name", "?")),
        operator=operator,
        pattern=str(found.get("pattern", "")),
        applies_to=str(found.get("apply-to", "all")),
        priority=priority if isinstance(priority, int) else 0,
        definition=mapping_at(found, "definition"),
    )


def in_force_on_quorum_queue(policies: Sequence[PolicyView], name: str) -> list[PolicyView]:
    """The policy and the operator policy that are in force on this queue, as far as there are any.

    A queue that was just declared does not show them yet: RabbitMQ counts for some seconds.
    """
    found = []
    for operator in (False, True):
        matching = [one for one in policies if one.operator is operator and one.matches_quorum_queue(name)]
        found += sorted(matching, key=lambda one: one.priority)[-1:]
    return found
