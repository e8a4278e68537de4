"""What the supervisor hands to a process that it starts, and how that one says that it cannot work."""

from __future__ import annotations

import os
import pickle
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final

if TYPE_CHECKING:
    from pathlib import Path

    from bridge.settings.sections import Settings

REFUSED: Final = os.EX_UNAVAILABLE
"""Exit code: it cannot work, nor could another in its place; standard output says why in one line."""
BAD_SETTINGS: Final = os.EX_CONFIG
"""Exit code: the same, and it is the settings that are wrong. Python itself ends with neither of the two."""


@dataclass(frozen=True, slots=True)
class Order:
    """One process's part in the crew. It goes over a pipe: secrets are seen by no other process."""

    number: int
    """From 1; a successor has that of the process it stands in for."""
    settings: Settings
    """With the port that all of them share."""
    directory: Path
    """The crew's own: metrics and sockets. The supervisor removes it."""
    supervisor: int
    """Its process id."""

    @property
    def health_socket(self) -> Path:
        """Where the process serves its health, to the supervisor alone."""
        return self.directory / f"{self.number}.sock"

    def packed(self) -> bytes:
        return pickle.dumps(self)


def unpacked(pipe: BinaryIO) -> Order:
    """The order, read to its end and no further.

    Raises:
        EOFError: the supervisor is gone.
    """
    order: Order = pickle.load(pipe)  # noqa: S301 -- nobody but the supervisor, who has started us, can write here
    return order
