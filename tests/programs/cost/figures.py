"""The figures of the last release, and whether those of now are held against them."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

RELEASED: Final = Path(__file__).with_name("released.json")
MOST_RISE: Final = 0.05
"""The share by which an event may cost more than with the last release."""
LIBRARIES: Final = (
    "aio-pika", "aiohttp", "aiormq", "aiosqlite", "asyncpg", "orjson", "pamqp", "prometheus-client", "pydantic",
    "sqlalchemy", "structlog", "uvloop", "yarl",
)  # fmt: skip
"""Those whose instructions are counted as well."""


class NoFiguresError(Exception):
    """There are no figures of a release, or they cannot be read. The message names the file."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What was counted, and with what versions."""

    versions: Mapping[str, str]
    instructions: Mapping[str, float]
    """Name of the subject -> instructions for each event."""

    @classmethod
    def read(cls, path: Path = RELEASED) -> Figures:
        """Raises NoFiguresError."""
        try:
            found = orjson.loads(path.read_bytes())
            return cls(versions=found["versions"], instructions=found["instructions"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise NoFiguresError(
                f"{path} has no figures of a release ({error!r}): `make cost ARGS=--write` makes them"
            ) from error

    def write(self, path: Path = RELEASED) -> None:
        """Figures of subjects that were not measured now stay, where they were measured with the same versions."""
        path.write_bytes(self.as_json())

    def as_json(self) -> bytes:
        found = {
            "versions": dict(self.versions),
            "instructions": {name: round(number) for name, number in self.instructions.items()},
        }
        return orjson.dumps(found, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def versions_here(valgrind: str) -> dict[str, str]:
    """Args: what valgrind says of itself."""
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "valgrind": valgrind,
        **{name: version(name) for name in LIBRARIES},
    }


def other_versions(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """What is not as it was when the figures of the release were counted, each in a few words."""
    return [
        f"{name} {before.get(name, 'none')} then, {now.get(name, 'none')} now"
        for name in dict.fromkeys([*before, *now])
        if before.get(name) != now.get(name)
    ]


def risen(before: Mapping[str, float], now: Mapping[str, float], *, most: float = MOST_RISE) -> list[str]:
    """For each subject that costs too much more than before, a line that says so."""
    return [
        f"{name}: {number:,.0f} instructions, {before[name]:,.0f} with the last release ({number / before[name] - 1:+.1%})"
        for name, number in now.items()
        if name in before and number > before[name] * (1 + most)
    ]


def spread(rounds: Sequence[float]) -> float:
    """From the least to the most, as a share of the least."""
    return max(rounds) / min(rounds) - 1


def means(rounds: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Of each subject over the rounds."""
    found: dict[str, list[float]] = {}
    for one in rounds:
        for name, number in one.items():
            found.setdefault(name, []).append(number)
    return {name: sum(numbers) / len(numbers) for name, numbers in found.items()}
