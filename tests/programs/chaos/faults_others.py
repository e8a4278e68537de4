"""Faults of PostgreSQL's grants and of the provider."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

from bridge.development.simulator_faults import UNTIL_SWITCHED_OFF, Faults
from tests.programs.chaos.injecting import once, until_done
from tests.support import postgres

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.programs.chaos.schedule import Fault
    from tests.programs.chaos.stack import Stack

_TAKEN: Final = {
    "tables": 'REVOKE ALL ON ALL TABLES IN SCHEMA public FROM "{0}"',
    "sequences": 'REVOKE ALL ON ALL SEQUENCES IN SCHEMA public FROM "{0}"',
    "login": 'ALTER ROLE "{0}" NOLOGIN',
}
_GIVEN: Final = {
    "tables": 'GRANT ALL ON ALL TABLES IN SCHEMA public TO "{0}"',
    "sequences": 'GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO "{0}"',
    "login": 'ALTER ROLE "{0}" LOGIN',
}
_ENDED: Final = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{0}'"
_ON: Final = UNTIL_SWITCHED_OFF
_PROVIDER: Final = {
    "500": Faults(fail=_ON),
    "429": Faults(throttle=_ON),
    "401": Faults(unauthorized=_ON),
    "slow": Faults(slow=_ON, slow_seconds=1.0),
    "hanging": Faults(slow=_ON, slow_seconds=3600),
    "garbage": Faults(garbage=_ON),
    "reset": Faults(reset=_ON),
    "404": Faults(unknown_lookups=_ON),
}


@asynccontextmanager
async def rights(stack: Stack, fault: Fault) -> AsyncIterator[None]:
    """The owner of the list loses a right on its own tables, or may not log in; its sessions are ended."""
    take, give, ended = (
        text.format(stack.name) for text in (_TAKEN[fault.argument], _GIVEN[fault.argument], _ENDED)
    )
    try:
        await once(partial(postgres.execute, stack.database_url, take, ended))
        yield
    finally:
        await until_done(partial(postgres.execute, stack.database_url, give))


@asynccontextmanager
async def provider(stack: Stack, fault: Fault) -> AsyncIterator[None]:
    stack.simulator.faults = _PROVIDER[fault.argument]
    try:
        yield
    finally:
        stack.simulator.faults = Faults()
