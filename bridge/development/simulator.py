"""Simulates the provider: messages, the webhook, its events, and faults that can be switched on."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import aiohttp

from bridge.development.emission import Emission, arrange_batch, event_body, post
from bridge.development.simulator_faults import Faults

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import aiohttp

_MAX_REQUESTS: Final = 10_000
_STATUSES: Final = frozenset({"delivered", "soft_bounced", "hard_bounced"})


@dataclass(frozen=True, slots=True)
class ApiCall:
    """A received call of the API."""

    method: str
    path: str
    """Percent-encoded."""
    at: float
    """`time.monotonic()`."""


class Simulator:
    """A provider with messages and one webhook, which sends no mail."""

    def __init__(self, token: str, session: aiohttp.ClientSession, *, messages: int = 0) -> None:
        """Make a provider without an API, which `simulator_api.serve_simulator` adds.

        Args:
            token: the only API token that is accepted.
            session: posts the events.
            messages: how many exist, with ids from 1, to `recipient1@example.org` and so on.
        """
        self.base_url = ""
        """The value for `provider.base_url`, while the API is served."""
        self.page_url = ""
        """The page for people, while it is served."""
        self.token = token
        self.faults = Faults()
        self.requests: deque[ApiCall] = deque(maxlen=_MAX_REQUESTS)
        """The last calls of the API, the newest last."""
        self.webhook_url: str | None = None
        self._session = session
        self._messages: dict[str, dict[str, Any]] = {}
        self._initial_messages = self._last_id = messages

    def add_message(self, to: str, id: int | None = None) -> int:  # noqa: A002 -- the provider's own word
        """Add a message to this address; returns its id: the next free one by default."""
        number = self._last_id + 1 if id is None else id
        self._last_id = max(self._last_id, number)
        self._messages[str(number)] = {
            "id": number,
            "from_email": "sender@example.org",
            "from_name": "Sender",
            "to": to,
            "subject": "Hello",
            "text": "Hello",
            "html": "",
            "attachments": [],
            "status": "queued",
            "events": {},
        }
        return number

    async def emit(
        self,
        name: str,
        message_id: int,
        *,
        timestamp: int | None = None,
        data: Mapping[str, Any] | None = None,
        url: str | None = None,
    ) -> int:
        """Post an event as the provider does, `faults.repeat_events` times.

        Args:
            name: of the event, in any spelling.
            message_id: of a message; it need not exist.
            timestamp: Unix seconds; None is now.
            data: `event.data`; None is `{}`.
            url: instead of the webhook.

        Returns:
            The status of the (last) answer.

        Raises:
            NoWebhookError: there is no URL.
            aiohttp.ClientError, TimeoutError: there was no answer.
        """
        if (message := self._found(str(message_id))) and name in _STATUSES:
            message["status"] = name
        body = event_body(name, message_id, int(time.time()) if timestamp is None else timestamp, data or {})
        status = 0
        for _ in range(self.faults.repeat_events):
            status = await post(self._session, url or self.webhook_url, body)
        return status

    async def emit_many(
        self, events: Iterable[Emission], *, shuffle: int | None = None, repeat: int = 1
    ) -> list[int]:
        """Post events one after the other, each `repeat` times; returns the statuses, in this order.

        `shuffle` is a seed: then the whole batch, repeats included, is shuffled.
        """
        return [
            await self.emit(event.name, event.message_id, timestamp=event.timestamp, data=event.data)
            for event in arrange_batch(events, shuffle=shuffle, repeat=repeat)
        ]

    def message(self, message_id: int) -> dict[str, Any]:
        """The message itself, to read or change.

        Raises:
            KeyError: there is none.
        """
        if (message := self._found(str(message_id))) is None:
            raise KeyError(message_id)
        return message

    def find(self, message_id: str) -> dict[str, Any] | None:
        """The message as the API returns it; None if there is none, or a fault hides it."""
        return None if self.faults.hides(message_id) else self._found(message_id)

    def _found(self, message_id: str) -> dict[str, Any] | None:
        """Messages that exist at the start are created at the first access: there may be a million of them."""
        if message_id not in self._messages and _is_number_up_to(self._initial_messages, message_id):
            self.add_message(f"recipient{message_id}@example.org", int(message_id))
        return self._messages.get(message_id)


def _is_number_up_to(last: int, text: str) -> bool:
    """Whether it is an id as the provider writes it, `7` and not `07` or a digit of another script, up to `last`."""
    return text.isascii() and text.isdecimal() and not text.startswith("0") and int(text) <= last
