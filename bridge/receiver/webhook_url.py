"""The webhook's URL as seen from outside, built from `receiver.public_url` and a token."""

from __future__ import annotations

from typing import TYPE_CHECKING

from yarl import URL

from bridge.receiver.handler import WEBHOOK_PATH

if TYPE_CHECKING:
    from bridge.settings.sections import Receiver


def public_base_url(public_url: str) -> str:
    """The URL before the webhook's path. Some users set the whole URL, with the path and even the token."""
    url = URL(public_url)
    before, _, _ = f"{url.path}/".partition(WEBHOOK_PATH)
    return f"{url.origin()}{before.rstrip('/')}"


def webhook_url(settings: Receiver) -> str | None:
    """The URL that the provider has to post to; None if the settings do not contain it.

    The token is the first of `receiver.tokens`, even if `receiver.public_url` contains another one.
    """
    if settings.public_url is None or not settings.tokens:
        return None
    return f"{public_base_url(settings.public_url)}{WEBHOOK_PATH}{settings.tokens[0].get_secret_value()}"
