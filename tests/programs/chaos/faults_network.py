"""Faults of the network: a way that is cut, in each of the ways that this can be felt, and one that is slow."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.programs.chaos.schedule import Fault
    from tests.programs.chaos.stack import Stack


@asynccontextmanager
async def cut(stack: Stack, fault: Fault) -> AsyncIterator[None]:
    way = stack.ways[fault.target]
    way.cut(fault.argument)
    try:
        yield
    finally:
        way.mend()


@asynccontextmanager
async def slow(stack: Stack, fault: Fault) -> AsyncIterator[None]:
    way = stack.ways[fault.target]
    way.slow(float(fault.argument.removesuffix(" s")))
    try:
        yield
    finally:
        way.mend()
