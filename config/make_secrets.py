"""Make the secrets of the Compose stack: `make secrets`. Python's standard library is all it takes.

Passwords and tokens that are there already stay; what is made of them (URLs, RabbitMQ's users) is written anew.
`make rotate-token` and `make retire-token` change the webhook's token while receivers run.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import secrets
import sys
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).parent / "secrets"

WEBHOOK_TOKENS = "receiver_tokens"
TOKENS = (WEBHOOK_TOKENS, "provider_api_token")
SESSION_KEY = "console_session_key"
API_TOKENS = "api_tokens"
API_SCOPES = {"sender": "check+write", "people": "check+read+write+override"}
"""Name of a token of the API -> its scopes, as docs/api.md explains them."""
DATABASE_USERS = ("owner", "worker", "api")
GRAFANA = "grafana_admin_password"
DATABASE_PASSWORDS = ("postgres_password", *(f"database_{user}_password" for user in DATABASE_USERS))


class User(NamedTuple):
    """What a user of RabbitMQ may do: patterns of the names that it may declare, write to and read from."""

    configure: str
    write: str
    read: str
    tags: tuple[str, ...] = ()


# The worker's own are `suppression` and what begins with `suppression.`. To publish to one of them by name (retries,
# dead letters) is to write to the default exchange, amq.default; to bind or to read again, to read the events. A sender is
# a program of yours that announces what it has sent. The user crm is the example of a service that consumes: the bridge
# declares its queue, so it configures nothing; to bind a queue is to write to it, and to read the exchange.
USERS = {
    "operator": User(configure=".*", write=".*", read=".*", tags=("monitoring",)),
    "receiver": User(
        configure="^$",
        write=r"^email\.events$",
        read="^$",
        tags=("management",),  # to see in the management API which queue rejects events, for its log
    ),
    "sender": User(configure="^$", write=r"^email\.messages$", read="^$"),
    "worker": User(
        configure=r"^suppression(\..+)?$",
        write=r"^(suppression(\..+)?|amq\.default)$",
        read=r"^(suppression(\..+)?|email\.events(\.archive)?|email\.messages)$",
        tags=("management",),  # to see in the management API whether its queue is still bound
    ),
    "crm": User(
        configure="^$",
        write="^crm$",
        read=r"^(crm(\.dead)?|email\.events|suppression\.changes)$",
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the secrets of the Compose stack.")
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--rotate-token", action="store_true", help="put a new token in front of the webhook's")
    what.add_argument("--retire-token", action="store_true", help="take away all of them but the first")
    given = parser.parse_args()
    if given.rotate_token:
        rotate(given.folder / WEBHOOK_TOKENS)
    elif given.retire_token:
        retire(given.folder / WEBHOOK_TOKENS)
    else:
        make(given.folder)


def make(folder: Path) -> None:
    """All that is missing."""
    # Each container reads its own as another user, so the files are open, and the folder they stand in is not.
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    passwords = {f"rabbitmq_{user}_password" for user in USERS}
    passwords |= {*DATABASE_PASSWORDS, *TOKENS, SESSION_KEY, GRAFANA}
    made = [name for name in sorted(passwords) if not (folder / name).exists()]
    for name in made:
        write(folder / name, secrets.token_urlsafe(24))
    if not (folder / API_TOKENS).exists():  # these have their names and scopes with them
        made.append(API_TOKENS)
        tokens = (f"{name}:{scopes}:{secrets.token_urlsafe(24)}" for name, scopes in API_SCOPES.items())
        write(folder / API_TOKENS, ",".join(tokens))
    for name, content in derived({name: (folder / name).read_text().strip() for name in passwords}).items():
        write(folder / name, content)
    print(f"secrets: made {', '.join(made)} in {folder}" if made else f"secrets: all are in {folder}")


def rotate(file: Path) -> None:
    """Receivers take both within seconds; the first is the one that `bridge webhook enable` gives the provider."""
    tokens = tokens_in(file)
    if len(tokens) > 1:
        sys.exit(
            f"secrets: {file} has {len(tokens)} tokens: end the rotation that is under way (retire-token) first"
        )
    write_into(file, ",".join([secrets.token_urlsafe(24), *tokens]))
    print(f"secrets: {file} has a new token in front of the old one; receivers take both within seconds")


def retire(file: Path) -> None:
    tokens = tokens_in(file)
    if not tokens[1:]:
        sys.exit(f"secrets: {file} has one token: there is none to take away")
    write_into(file, tokens[0])
    print(f"secrets: {file} has the new token only; receivers refuse the old one within seconds")


def tokens_in(file: Path) -> list[str]:
    if not file.exists():
        sys.exit(f"secrets: there is no {file}: make secrets")
    return [token for token in file.read_text().strip().split(",") if token]


def derived(secret: dict[str, str]) -> dict[str, str]:
    """File name -> content, of what is made of passwords."""
    database = "postgresql+asyncpg://bridge_{user}:{password}@postgres:5432/bridge"
    return {
        **{
            f"rabbitmq_{user}_url": f"amqp://{user}:{secret[f'rabbitmq_{user}_password']}@rabbitmq:5672/"
            for user in USERS
        },
        **{
            f"database_{user}_url": database.format(user=user, password=secret[f"database_{user}_password"])
            for user in DATABASE_USERS
        },
        "rabbitmq_definitions": json.dumps(definitions(secret), indent=2),
    }


def definitions(secret: dict[str, str]) -> dict[str, Any]:
    """What RabbitMQ reads at its start: https://www.rabbitmq.com/docs/definitions."""
    return {
        "vhosts": [{"name": "/"}],
        "users": [
            {
                "name": name,
                "password_hash": hashed(secret[f"rabbitmq_{name}_password"]),
                "hashing_algorithm": "rabbit_password_hashing_sha256",
                "tags": list(user.tags),
            }
            for name, user in USERS.items()
        ],
        "permissions": [
            {
                "user": name,
                "vhost": "/",
                "configure": user.configure,
                "write": user.write,
                "read": user.read,
            }
            for name, user in USERS.items()
        ],
        # RabbitMQ 4 drops what was delivered 20 times, and each look at these two counts.
        "policies": [
            {
                "vhost": "/",
                "name": "as often as you like",
                "pattern": r"^email\.(malformed|unrouted)$",
                "apply-to": "quorum_queues",
                "definition": {"delivery-limit": -1},
            }
        ],
    }


def hashed(password: str) -> str:
    """As https://www.rabbitmq.com/docs/passwords: base64 of a salt of 4 bytes and the SHA-256 of both."""
    salt = os.urandom(4)
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()


def write(file: Path, content: str) -> None:
    draft = file.with_suffix(".draft")
    draft.write_text(content)
    draft.chmod(0o644)
    draft.replace(file)


def write_into(file: Path, content: str) -> None:
    """Into the file that is there: a container has that one, and would not see another in its place.

    It is never empty for a reader, nor has it less than a whole token: what is old is overwritten, and then cut off.
    """
    with file.open("r+") as opened:
        opened.write(f"{content}\n".ljust(file.stat().st_size, "\n"))
        opened.flush()
        opened.truncate(len(content) + 1)
        os.fsync(opened.fileno())


if __name__ == "__main__":
    main()
