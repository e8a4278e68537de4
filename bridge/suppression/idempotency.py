"""Requests with an idempotency key: a repeated one changes nothing, and gets the answer of the first."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import delete, select, update

from bridge.suppression import bulk, model
from bridge.suppression.errors import IdempotencyConflictError

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection
    from sqlalchemy.sql.dml import ReturningInsert

KEPT_SECONDS: Final = 24 * 3600
"""How long an answer is kept: after that the same key is a new request."""


@dataclass(frozen=True, slots=True)
class IdempotentRequest:
    """What makes two requests the same."""

    key: str
    """The client's, and whose it is: two clients may choose the same one."""
    fingerprint: str
    """Of what the request asks for."""


async def begin(connection: AsyncConnection, request: IdempotentRequest, now: int) -> bytes | None:
    """Begin the request in this transaction. Returns the answer if it was made before; None: it is new.

    On PostgreSQL the INSERT waits for another transaction with the same key.

    Raises:
        IdempotencyConflictError: another request has this key.
    """
    table = model.idempotent_requests
    ours = table.c.key == request.key
    await connection.execute(delete(table).where(ours, table.c.made_at <= now - KEPT_SECONDS))
    row = {"key": request.key, "fingerprint": request.fingerprint, "answer": b"", "made_at": now}
    inserted = await connection.scalars(
        _begin_statement(connection.dialect.name), bulk.as_parameters(connection, [row])
    )
    if inserted.all():
        return None
    stored = (await connection.execute(select(table).where(ours))).one()
    if stored.fingerprint != request.fingerprint:
        raise IdempotencyConflictError(
            "this idempotency key was used for another request within 24 hours: send the same body, or a new key"
        )
    return bytes(stored.answer)


async def finish(connection: AsyncConnection, request: IdempotentRequest, answer: bytes) -> None:
    """Keep the answer for repeated requests."""
    table = model.idempotent_requests
    await connection.execute(update(table).where(table.c.key == request.key).values(answer=answer))


@lru_cache(maxsize=4)
def _begin_statement(dialect: str) -> ReturningInsert[Any]:
    table = model.idempotent_requests
    adding = bulk.insert_statement(dialect, table, ("key", "fingerprint", "answer", "made_at"))
    return adding.on_conflict_do_nothing(index_elements=[table.c.key]).returning(table.c.key)
