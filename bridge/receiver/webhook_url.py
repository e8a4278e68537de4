"""Where the receiver is reached from outside: the webhook's URL, made of `receiver.public_url` and a token."""

from __future__ import annotations

from typing import TYPE_CHECKING

from yarl import URL

from bridge.receiver.handler import PATH

if TYPE_CHECKING:
    from bridge.settings.sections import Receiver


def front_of(public_url: str) -> str:
    """What stands in front of the webhook's path. Some give the whole URL, with the path and even the token."""
    url = URL(public_url)
    before, _, _ = f"{url.path}/".partition(PATH)
    return f"{url.origin()}{before.rstrip('/')}"


def webhook_url(settings: Receiver) -> str | None:
    """What the provider is to post to; None where the settings do not say.

    The token is the first of `receiver.tokens`, also where `receiver.public_url` has another one.
    """
    if settings.public_url is None or not settings.tokens:
        return None
    return f"{front_of(settings.public_url)}{PATH}{settings.tokens[0].get_secret_value()}"
