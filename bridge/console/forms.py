"""The forms of the console: what is in them, and what they all have."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import TYPE_CHECKING, Final

import orjson

from bridge.api import fields
from bridge.api.problems import ProblemError
from bridge.console.errors import InvalidFieldError
from bridge.suppression.idempotency import IdempotentRequest

if TYPE_CHECKING:
    from aiohttp import web

Form = Mapping[str, str]

_ON: Final = "on"
"""The value of a box that is ticked."""
_MOST_CHARACTERS: Final = 64
"""Of what makes a form itself."""


class Given(dict[str, str]):
    """What was given, for templates: a field that was not is empty."""

    def __missing__(self, name: str) -> str:
        return ""


class RefusedError(InvalidFieldError):
    """A form was not carried out, and nothing was changed: what is in it cannot be, or the list says no."""


async def form_of(request: web.Request) -> Form:
    """The fields of the form that are texts."""
    return Given({name: value for name, value in (await request.post()).items() if isinstance(value, str)})


def note_of(form: Mapping[str, object]) -> str:
    """Why somebody does this: each action takes a note.

    Raises:
        RefusedError: there is none, or it cannot be stored.
    """
    try:
        note = fields.text(form, "note", most=fields.MAX_NOTE, preset="").strip()
    except ProblemError as problem:
        raise RefusedError(f"Nothing was changed: the note {problem.errors[0].detail}.") from None
    if not note:
        raise RefusedError("Nothing was changed: write a note that says why. It stays in the log.")
    return note


def is_ticked(form: Form, name: str) -> bool:
    """Whether this box is ticked."""
    return form.get(name) == _ON


def once_of(form: Form, actor: str) -> IdempotentRequest | None:
    """What makes a form the same when it is sent twice; None where its hidden field `once` is missing."""
    key = form.get("once", "")
    if not (key.isascii() and key.isprintable() and 0 < len(key) <= _MOST_CHARACTERS):
        return None
    return IdempotentRequest(f"{actor}:{key}", sha256(orjson.dumps(sorted(form.items()))).hexdigest())
