"""Operations on the subscribers: the queues of other services, of the settings and of the registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bridge.settings.subscribers import together
from bridge.suppression.subscriber_registry import read_registered

if TYPE_CHECKING:
    from bridge.settings.sections import Settings
    from bridge.settings.subscribers import Subscriber


async def all_subscribers(settings: Settings) -> list[Subscriber]:
    """Those of the settings, and those that are registered.

    Where the registry cannot be read, those of the settings only: `read_registered` says why.
    """
    registered = await read_registered(settings.suppression.database_url.get_secret_value())
    return list(together(settings.subscribers, registered.current))
