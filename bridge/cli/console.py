"""What every command shares: the settings it was given, output for people or programs, and how it fails."""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, Any, Final, NoReturn, ParamSpec, TypeVar

import orjson
import typer
from rich.console import Console

from bridge import settings as knobs
from bridge.telemetry.scrubbing import without_secrets

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridge.settings import Settings

P = ParamSpec("P")
T = TypeVar("T")

FAILED: Final = 1
"""Exit code: it could not be done; one line on standard error says why."""
BAD_USAGE: Final = 2
"""Exit code: the arguments or the settings are wrong."""

people = Console(soft_wrap=True)
_errors = Console(stderr=True, soft_wrap=True)


def settings_of(context: typer.Context) -> Settings:
    """The settings that `main`'s callback loaded.

    Raises:
        typer.Exit: they are not usable; the reason has been printed.
    """
    load: Callable[[], Settings] = context.obj
    try:
        return load()
    except knobs.InvalidSettingsError as error:
        fail(str(error), BAD_USAGE)


def fail(message: str, code: int = FAILED) -> NoReturn:
    """One line on standard error, and the exit code."""
    _errors.print(f"bridge: {without_secrets(message)}", style="red", highlight=False, markup=False)
    raise typer.Exit(code)


def fails_with(*errors: type[Exception]) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """A command that answers these exceptions with their message and exit code 1, not with a traceback."""

    def decorate(command: Callable[P, T]) -> Callable[P, T]:
        @functools.wraps(command)
        def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
            try:
                return command(*args, **kwargs)
            except errors as error:
                fail(str(error))

        return wrapped

    return decorate


def print_json(value: Any) -> None:
    """One JSON document for programs on standard output."""
    sys.stdout.buffer.write(orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_INDENT_2))
    sys.stdout.buffer.flush()
