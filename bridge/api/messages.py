"""Senders announce who was sent which message, so that no event of it needs a question to the provider."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bridge.api import fields
from bridge.api.bodies import answer, read_object
from bridge.api.problems import FieldError, invalid, invalid_field
from bridge.suppression.announcements import InvalidAnnouncementError, read_announcement

if TYPE_CHECKING:
    from aiohttp import web

    from bridge.api.access import Caller
    from bridge.api.open_list import OpenList


class Messages:
    """Takes announcements, as they also come by RabbitMQ."""

    def __init__(self, opened: OpenList) -> None:
        """Args: the list."""
        self._opened = opened

    async def announce(self, request: web.Request, _: Caller) -> web.Response:
        """1 to 10,000 messages, all or none."""
        fields.query(request)
        body = await read_object(request)
        if "messages" not in body:
            raise invalid_field("messages", "is missing")
        try:
            announcement = read_announcement(await request.read())
        except InvalidAnnouncementError as error:
            raise invalid_field("messages", str(error)) from None
        if announcement.problems:
            raise invalid([_field_error(problem) for problem in announcement.problems])
        await self._opened.store.remember(announcement.addresses)
        return answer({"accepted": len(body["messages"])})


def _field_error(problem: str) -> FieldError:
    """`messages[3].to: not a text` -> its place and the rest."""
    where, _, detail = problem.partition(": ")
    return FieldError(where, detail)
