"""Shared by all commands: settings, output for people or programs, and errors."""

from __future__ import annotations

import functools
import json
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, NoReturn, ParamSpec, TypeVar

import orjson
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.segment import Segment

from bridge.settings.errors import InvalidSettingsError
from bridge.settings.loading import foreign_variables
from bridge.telemetry import logs
from bridge.telemetry.scrubbing import without_secrets
from bridge.telemetry.terminal import clean, escaped, one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from rich.console import ConsoleOptions, RenderableType

    from bridge.settings.sections import Settings
    from bridge.settings.values import Level

P = ParamSpec("P")
T = TypeVar("T")

FAILED: Final = 1
"""Exit code: the command failed; one line on standard error says why."""
BAD_USAGE: Final = 2
"""Exit code: the arguments or the settings are wrong."""

_TIMES_IN_UTC: Final = orjson.OPT_UTC_Z | orjson.OPT_NAIVE_UTC
"""RFC 3339, with a Z."""
_NAMED_AT_MOST: Final = 4
"""How many ignored variables are named."""


class _Terminal(Console):
    """Prints plain text: without rich's markup, and with control characters replaced."""

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, soft_wrap=True, markup=False, emoji=False, highlight=False)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else clean(text), style, control)


terminal = _Terminal()
_errors = _Terminal(stderr=True)


def settings_of(context: typer.Context, *, warn: bool = True) -> Settings:
    """The settings that `main`'s callback loads. Variables that look like settings and are none are named, once.

    Args:
        context: the command's context.
        warn: whether to print the ignored variables. A role does not: `run_role` logs them.

    Raises:
        typer.Exit: the settings are not usable; the reason was printed.
    """
    load: Callable[[], Settings] = context.obj
    try:
        settings = load()
    except InvalidSettingsError as error:
        fail(str(error), BAD_USAGE)
    if warn:
        warn_foreign_variables()
    return settings


def settings_with_logs(context: typer.Context, level: Level) -> Settings:
    """The settings, as `settings_of`. Logs of this level and above go to standard error."""
    settings = settings_of(context)
    logs.configure_for(settings, level=level)
    return settings


def warn_foreign_variables() -> None:
    """Print the ignored variables on one line of standard error, if there are any."""
    foreign = foreign_variables()
    if foreign:
        more = len(foreign) - _NAMED_AT_MOST
        names = ", ".join(foreign[:_NAMED_AT_MOST]) + (f" and {more} more" if more > 0 else "")
        _say(f"variables that are not settings are ignored: {names}", "yellow")


def fail(message: str, code: int = FAILED) -> NoReturn:
    """Print one line on standard error, and end with the exit code."""
    _say(message, "red")
    raise typer.Exit(code)


def _say(message: str, style: str) -> None:
    """Print to standard error. If that fails, only the exit code tells of the error."""
    with suppress(OSError):
        _errors.print(f"bridge: {one_line(without_secrets(message))}", style=style)


def fails_with(*errors: type[Exception]) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """A command that answers these exceptions with their message and exit code 1, not with a traceback.

    Settings that turn out to be unusable while it works end with 2, as those that cannot be read.
    """

    def decorate(command: Callable[P, T]) -> Callable[P, T]:
        @functools.wraps(command)
        def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
            try:
                return command(*args, **kwargs)
            except InvalidSettingsError as error:
                fail(str(error), BAD_USAGE)
            except errors as error:
                fail(str(error))

        return wrapped

    return decorate


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[..., None]]:
    """A progress bar on standard error. The function that it yields advances it, by one unless a number is given."""
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as shown:
        bar = shown.add_task(what, total=total)

        def advance(count: int = 1) -> None:
            shown.advance(bar, count)

        yield advance


def on_terminal() -> bool:
    """Whether people read standard output. Colours may be forced upon a pipe, a table may not."""
    return sys.stdout.isatty()


def print_to_stderr(line: str) -> None:
    """A line on standard error, for people, while the output is for a program."""
    with suppress(OSError):
        _errors.print(one_line(line))


def print_json(value: Any) -> None:
    """Print one JSON document on standard output, for programs."""
    write_json(_json(value, orjson.OPT_INDENT_2) + "\n", at_once=True)


def json_text(value: Any) -> str:
    """JSON in one line."""
    return _json(value, 0)


def write_json(text: str, *, at_once: bool = False) -> None:
    """JSON, or a part of it, on standard output, whatever its encoding is: JSON is UTF-8."""
    sys.stdout.buffer.write(text.encode())
    if at_once:
        sys.stdout.buffer.flush()


def _json(value: Any, options: int) -> str:
    try:
        text = orjson.dumps(value, option=options | _TIMES_IN_UTC).decode()
    except orjson.JSONEncodeError:  # a lone surrogate, or a number beyond 64 bits
        text = json.dumps(value, indent=2 if options else None, default=str)
    return escaped(text)
