"""Which bridge a role belongs to."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from bridge.roles.identity import Identity, identity_of, read_identity
from bridge.settings.sections import RabbitMQ

OWN = Identity("", "/", ("rabbit:5672",), "rabbit@one")


@pytest.mark.parametrize(
    ("other", "is_another"),
    [
        (OWN, False),
        (Identity("staging.", "/", ("rabbit:5672",), "rabbit@one"), True),
        (Identity("", "staging", ("rabbit:5672",), "rabbit@one"), True),
        (Identity("", "/", ("127.0.0.1:5672",), "rabbit@one"), False),
        (Identity("", "/", ("rabbit:5672",), "rabbit@two"), True),
        (Identity("", "/", ("rabbit:5672",)), False),
        (Identity("", "/", ("rabbit-2:5672", "rabbit:5672")), False),
        (Identity("", "/", ("127.0.0.1:5672",)), True),
    ],
)
def test_two_bridges_are_told_apart(*, other: Identity, is_another: bool) -> None:
    """By prefix, virtual host and RabbitMQ: its own name, or else its addresses."""
    assert OWN.is_another_than(other) is is_another
    assert other.is_another_than(OWN) is is_another


def test_an_identity_has_no_secret() -> None:
    """Neither user nor password of a URL; this machine has one name."""
    settings = RabbitMQ(urls=(SecretStr("amqp://user:password@localhost/a%2Fb"),), prefix="p.")
    identity = identity_of(settings)
    assert identity == Identity("p.", "a/b", ("127.0.0.1:5672",))
    assert "password" not in str(identity)


@pytest.mark.parametrize("part", [None, {}, {"prefix": "p"}, "text"])
def test_what_is_no_identity_is_none(part: object) -> None:
    """A role of an earlier release says none."""
    assert read_identity(part) is None
