"""Users of RabbitMQ with the least rights that each role, and each service that consumes, needs for its work."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from bridge.broker.topology import Names, Topology

_NOTHING: Final = "^$"
_SALT_BYTES: Final = 4


@dataclass(frozen=True, slots=True)
class BrokerUser:
    """What a user may do: patterns of the names that it may declare, write to and read from."""

    name: str
    configure: str = _NOTHING
    write: str = _NOTHING
    read: str = _NOTHING
    tags: tuple[str, ...] = ()


def role_users(names: Names) -> dict[str, BrokerUser]:
    """Role -> its user. `config/make_secrets.py` gives the same rights in the Compose stack.

    The worker's own are `suppression` and what begins with `suppression.`. To publish to one of them by its name (retries, dead
    letters) is to write to the default exchange, amq.default; to bind or to read again, to read the events. The receiver
    and the worker have the tag `management` to see queues and bindings in the management API, the operator `monitoring` to see
    nodes, too. A sender is a program that announces what it has sent.
    """
    own = re.escape(names.prefix)
    suppression = rf"{own}suppression(\..+)?"
    everything = f"^{own}.*$" if own else ".*"
    return {
        "operator": BrokerUser(
            f"{names.prefix}bridge-operator",
            configure=everything,
            write=rf"^({own}.*|amq\.default)$" if own else ".*",
            read=everything,
            tags=("monitoring",),
        ),
        "receiver": BrokerUser(
            f"{names.prefix}bridge-receiver", write=rf"^{own}email\.events$", tags=("management",)
        ),
        "sender": BrokerUser(f"{names.prefix}bridge-sender", write=rf"^{own}email\.messages$"),
        "worker": BrokerUser(
            f"{names.prefix}bridge-worker",
            configure=f"^{suppression}$",
            write=rf"^({suppression}|amq\.default)$",
            read=rf"^({suppression}|{own}email\.events(\.archive)?|{own}email\.messages)$",
            tags=("management",),
        ),
    }


def subscriber_users(planned: Topology) -> list[BrokerUser]:
    """One for each subscriber, named as its queue: it may consume that and its dead letters. To acknowledge takes no right."""
    return [
        BrokerUser(queue.name, read=rf"^{re.escape(queue.name)}(\.dead)?$")
        for queue in planned.queues
        if queue.of_subscriber and not queue.for_dead_letters
    ]


def user_definitions(
    users: Iterable[BrokerUser], passwords: Mapping[str, str], virtual_host: str
) -> dict[str, Any]:
    """The virtual host, the users and their permissions in the format of RabbitMQ's definition files.

    Args:
        users: to define.
        passwords: by name; only their hashes are in the definitions.
        virtual_host: in which they have their rights.
    """
    users = list(users)
    return {
        "vhosts": [{"name": virtual_host}],
        "users": [
            {
                "name": user.name,
                "password_hash": hashed(passwords[user.name]),
                "hashing_algorithm": "rabbit_password_hashing_sha256",
                "tags": list(user.tags),
            }
            for user in users
        ],
        "permissions": [
            {
                "user": user.name,
                "vhost": virtual_host,
                "configure": user.configure,
                "write": user.write,
                "read": user.read,
            }
            for user in users
        ],
    }


def hashed(password: str) -> str:
    """As https://www.rabbitmq.com/docs/passwords: base64 of a salt of 4 bytes and the SHA-256 of both."""
    salt = os.urandom(_SALT_BYTES)
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()
