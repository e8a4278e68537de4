"""The events of a history: all POSTs of one body are one event, whatever became of each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.support.history.records import FAIL, OK

if TYPE_CHECKING:
    from tests.support.history.history import History


@dataclass(slots=True)
class Sent:
    """An event that was posted, once or several times."""

    body: str
    message: str
    name: str
    event_at: int
    address: str | None
    first_sent: int
    """When its first POST that may have arrived was begun, ns; of one that was refused each time: the first POST."""
    accepted: bool = False
    """A POST of it was answered 200."""
    refused: bool = True
    """Every POST of it was refused."""
    accepted_since: int | None = None
    """When the last POST that was answered 200 was begun, ns."""
    ids: set[str] = field(default_factory=set)
    """What the answers call it."""
    lines: list[int] = field(default_factory=list)

    @property
    def about(self) -> str:
        """By which a reader finds it."""
        known = ", ".join(sorted(self.ids))
        return f"{self.name} of message {self.message}" + (f" (event {known})" if known else "")


class SentEvents:
    """All of them, by their body, their ids, and their messages."""

    def __init__(self, history: History) -> None:
        self.by_body: dict[str, Sent] = {}
        self.by_message: dict[str, list[Sent]] = {}
        self.by_id: dict[str, Sent] = {}
        """As answers and deliveries call them; of an id with two bodies, the first."""
        for invoked, ended, lines in history.posts:
            sent = self.by_body.get(invoked.body)
            if sent is None:
                sent = Sent(
                    invoked.body, invoked.message, invoked.name, invoked.event_at, invoked.address, invoked.at
                )
                self.by_body[invoked.body] = sent
                self.by_message.setdefault(invoked.message, []).append(sent)
            sent.lines += lines
            if ended is not None and ended.result == FAIL:
                continue
            if sent.refused:
                sent.refused, sent.first_sent = False, invoked.at
            if ended is not None and ended.result == OK:
                sent.accepted, sent.accepted_since = True, invoked.at
                if ended.event_id:
                    sent.ids.add(ended.event_id)
                    self.by_id.setdefault(ended.event_id, sent)
        for arrival in history.arrivals:
            known = self.by_body.get(arrival.delivered.body)
            if known is not None and arrival.delivered.event_id:
                self.by_id.setdefault(arrival.delivered.event_id, known)
