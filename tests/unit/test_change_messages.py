"""The message of a change: its properties are written by hand, and pamqp reads and writes the same."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st
from pamqp import commands as spec

from bridge.amqp.message_types import make_message
from bridge.amqp.properties import decode_properties
from bridge.broker.change_messages import change_message
from bridge.suppression.change import Change
from bridge.suppression.policy import Reason

ADDRESSES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=320)
LATEST = 2**32 - 1
"""pamqp reads a later timestamp as milliseconds."""


def change(
    number: int = 12, at: int = 1539062173, action: str = "added", address: str = "jane@example.org"
) -> Change:
    return Change(
        number, at, action, address, Reason.HARD_BOUNCE, "worker", "", "e" * 32, "1", None, None, (Reason.HARD_BOUNCE,)  # type: ignore[arg-type]  # any text
    )  # fmt: skip


@given(
    st.integers(1, 2**63 - 1),
    st.integers(0, LATEST),
    st.sampled_from(["added", "erased", "new-one"]),
    ADDRESSES,
)
def test_pamqp_writes_the_same_bytes(number: int, at: int, action: str, address: str) -> None:
    """Whatever the address, the number and the time."""
    message = change_message(change(number, at, action, address), exchange="changes")
    time = datetime.fromtimestamp(at, UTC)
    by_pamqp = make_message(
        exchange="changes",
        routing_key=action,
        properties=spec.Basic.Properties(
            content_type="application/json",
            delivery_mode=2,
            message_type=action,
            message_id=f"change-{number}",
            app_id="bridge",
            timestamp=time,
            headers={
                "cloudEvents:specversion": "1.0",
                "cloudEvents:id": f"change-{number}",
                "cloudEvents:source": "/suppressions",
                "cloudEvents:type": f"suppression.{action}",
                "cloudEvents:subject": address,
                "cloudEvents:time": f"{time:%Y-%m-%dT%H:%M:%SZ}",
            },
        ),
        body=message.body,
        mandatory=False,
    )
    assert message == by_pamqp
    assert decode_properties(message.properties).error is None


def test_the_body_is_the_changes_own() -> None:
    """What the log of changes says, and what the API answers."""
    one = change()
    assert change_message(one, exchange="changes").body == one.body()
