"""Makes users of RabbitMQ for the roles and the subscribers: their passwords in files, their hashes in definitions."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, Final

from yarl import URL

from bridge import durable_files, private_files
from bridge.broker.topology import Names
from bridge.broker.users import role_users, subscriber_users, user_definitions

if TYPE_CHECKING:
    from pathlib import Path

    from bridge.broker.topology import Topology
    from bridge.settings.sections import Settings

_PASSWORD_BYTES: Final = 24


class UsersError(Exception):
    """The users cannot be made. The message says why, and what to do."""


def make_users(settings: Settings, planned: Topology, folder: Path) -> dict[str, Any]:
    """Make what is missing in the folder; return the part of the definitions that defines the users.

    For each user there are `USER.password` and `USER.url`, which only their owner can read. Passwords that are there stay; the
    URLs are made anew: those of the settings, with this user.

    Args:
        settings: where RabbitMQ is, and the prefix.
        planned: has the subscribers' queues.
        folder: is made if it is not there.

    Raises:
        UsersError: a file cannot be written, or two users would have one name.
    """
    users = [*role_users(Names(settings.rabbitmq.prefix)).values(), *subscriber_users(planned)]
    names = [user.name for user in users]
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise UsersError(
            f"the subscriber '{twice[0]}' is called like the user of a role; give it another queue's name"
        )
    try:
        private_files.make_folder(folder)
        passwords = {name: _password(folder / f"{name}.password") for name in names}
        for name, password in passwords.items():
            urls = [URL(secret.get_secret_value()) for secret in settings.rabbitmq.urls]
            theirs = [str(url.with_user(name).with_password(password)) for url in urls]
            _write(folder / f"{name}.url", ",".join(theirs))
    except (OSError, UnicodeDecodeError) as error:
        raise UsersError(f"the users cannot be made in {folder}: {error}") from None
    return user_definitions(users, passwords, settings.rabbitmq.virtual_host)


def _password(file: Path) -> str:
    """The one that is there, or a new one."""
    if file.exists():
        if password := file.read_text().strip():
            private_files.make_private([file])
            return password
        raise UsersError(f"{file} is empty; delete it, and a new password is made")
    password = secrets.token_urlsafe(_PASSWORD_BYTES)
    _write(file, password)
    return password


def _write(file: Path, content: str) -> None:
    """Another reader sees the former content or the new one."""
    draft = file.with_name(f"{file.name}.draft")
    draft.unlink(missing_ok=True)
    private_files.create_file(draft)
    draft.write_text(f"{content}\n")
    durable_files.put_in_place(draft, file)
