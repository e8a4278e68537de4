"""For the tests of services that consume the bridge's messages: no bridge runs, and no broker.

`builders` makes messages with the publishers' own code; a `message` is handed to a consumer as its client would: `aio_pika_delivery`,
`pika_delivery`. `recorder` plays messages to a consumer, as a `queue` would, repeats and reorders them (`sequences`), and asserts
what the consumer did (`outcome`). `plugin` has the fixtures for pytest; `broker_publishing` is how one of them publishes.
"""

from bridge.testing.builders import change, dead_letter, event, from_body, malformed
from bridge.testing.message import BridgeMessage
from bridge.testing.outcome import Outcome, Played
from bridge.testing.queue import Consumer
from bridge.testing.recorder import ConsumerError, Recorder

__all__ = [
    "BridgeMessage",
    "Consumer",
    "ConsumerError",
    "Outcome",
    "Played",
    "Recorder",
    "change",
    "dead_letter",
    "event",
    "from_body",
    "malformed",
]
