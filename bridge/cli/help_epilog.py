"""The end of each command's `--help`: an example, the variables that it reads, and what its exit codes mean."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

BROKER: Final = ("BRIDGE_RABBITMQ__URLS", "BRIDGE_RABBITMQ__PREFIX")
LIST: Final = ("BRIDGE_SUPPRESSION__DATABASE_URL",)

_EACH: Final = MappingProxyType(
    {
        0: "done",
        1: "it could not be done, and one line on standard error says why",
        2: "the arguments or the settings are wrong",
    }
)
_BY_SIGNAL: Final = "128 and its number, a signal has ended it"

ROLE: Final = MappingProxyType(
    {0: "stopped in order by a signal", 75: "it did not end in time, and left behind what it waited for"}
)
STAYS: Final = MappingProxyType({0: "ended by Ctrl-C or another signal"})
_NO_OTHERS: Final[Mapping[int, str]] = MappingProxyType({})


def page(
    example: str, *variables: str, codes: Mapping[int, str] = _NO_OTHERS, ends_in_order: bool = False
) -> str:
    """The text for `epilog`, which shows each of its paragraphs as a line.

    Args:
        example: a command line to copy, without `bridge`.
        variables: the most important ones that the command reads.
        codes: what exit codes mean, where it is more or something else than for all commands.
        ends_in_order: whether a signal to stop has no exit code of its own.
    """
    meanings = dict(sorted({**_EACH, **codes}.items()))
    explained = [f"{code}, {meaning}" for code, meaning in meanings.items()]
    if not ends_in_order:
        explained.append(_BY_SIGNAL)
    return "\n\n".join(
        (
            f"Example: bridge {example}",
            f"Environment: {', '.join(('BRIDGE_CONFIG', *variables))}.",
            f"Exit codes: {'; '.join(explained)}.",
        )
    )
