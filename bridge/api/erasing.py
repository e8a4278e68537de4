"""Erases a person from the list's database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bridge.api import fields
from bridge.api.bodies import answer, read_object
from bridge.api.checks import ADDRESS
from bridge.api.problems import NO_PRIVACY_KEY, ProblemError, invalid_field
from bridge.suppression.addresses import InvalidAddressError
from bridge.suppression.errors import NoPrivacyKeyError

if TYPE_CHECKING:
    from aiohttp import web

    from bridge.api.access import Caller
    from bridge.api.open_list import OpenList

NOT_ERASED: Final = (
    "events that wait in the spool of a receiver: `bridge suppressions erase` looks through it on the receiver's machine",
    "events in RabbitMQ: the archive keeps them until they are older than rabbitmq.archive_max_age, queues until they are handled",
)
"""What the API cannot reach."""


class Erasing:
    """Erases persons."""

    def __init__(self, opened: OpenList) -> None:
        """Args: the list."""
        self._opened = opened

    async def erase(self, request: web.Request, caller: Caller) -> web.Response:
        """The address and its events leave the database; a keyed hash and the reasons stay, and the person stays suppressed."""
        fields.query(request)
        body = await read_object(request)
        fields.only(body, "note")
        note = fields.text(body, "note", most=fields.MAX_NOTE, preset="")
        try:
            erased = await self._opened.store.erasures.erase(
                request.match_info[ADDRESS], actor=caller.actor, note=note
            )
        except InvalidAddressError as error:
            raise invalid_field(ADDRESS, str(error)) from None
        except NoPrivacyKeyError as error:
            raise ProblemError(NO_PRIVACY_KEY, str(error)) from None
        return answer(erased.document() | {"not_erased": NOT_ERASED})
