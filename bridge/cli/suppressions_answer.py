"""Runs an operation on the suppression list: one line and an exit code where a text is not an address."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

from bridge.cli.console import BAD_USAGE, fail
from bridge.suppression.addresses import InvalidAddressError

if TYPE_CHECKING:
    from collections.abc import Coroutine

    T = TypeVar("T")


def answer(question: Coroutine[Any, Any, T]) -> T:
    """What it returns."""
    try:
        return asyncio.run(question)
    except InvalidAddressError as error:
        fail(str(error), BAD_USAGE)
