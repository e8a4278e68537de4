"""What the worker is measured with: messages as the receiver publishes them."""

from __future__ import annotations

from bridge import events
from bridge.amqp.properties import decode_properties
from bridge.broker.messages import are_of_event
from tests.programs.bench.working import SUPPRESSING, messages


def test_a_library_sends_the_receivers_properties_to_the_byte() -> None:
    """Those of each event that is measured, so that the worker reads them in the way that it takes nearly always."""
    made = list(messages("email.events", range(len(SUPPRESSING))))
    for message in made:
        sent = decode_properties(message.properties).to_pamqp().marshal()
        assert sent == message.properties
        assert are_of_event(sent, events.parse(message.body))
    assert [message.routing_key for message in made] == list(SUPPRESSING)
