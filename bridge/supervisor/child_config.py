"""The config that the supervisor sends to a receiver process, and the exit codes of the process."""

from __future__ import annotations

import os
import pickle
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final

if TYPE_CHECKING:
    from pathlib import Path

    from bridge.settings.sections import Settings

EXIT_REFUSED: Final = os.EX_UNAVAILABLE
"""Exit code: the process cannot work, and a restart would not help; standard output says why in one line."""
EXIT_BAD_SETTINGS: Final = os.EX_CONFIG
"""Exit code: the same, because the settings are wrong. Python itself uses neither of the two."""


@dataclass(frozen=True, slots=True)
class ChildConfig:
    """The config of one process. It goes over a pipe, so that no other process can see its secrets."""

    number: int
    """From 1. A process that replaces another one has the same number."""
    settings: Settings
    """With the port that all processes share."""
    directory: Path
    """The supervisor's folder for metrics and sockets. The supervisor removes it."""
    supervisor: int
    """The supervisor's process id."""

    @property
    def health_socket(self) -> Path:
        """The Unix socket of the process's health, for the supervisor."""
        return self.directory / f"{self.number}.sock"

    def packed(self) -> bytes:
        """The config as `read_config` reads it."""
        return pickle.dumps(self)


def read_config(pipe: BinaryIO) -> ChildConfig:
    """Read the config from the pipe.

    Raises:
        EOFError: the supervisor is gone.
    """
    config: ChildConfig = pickle.load(pipe)  # noqa: S301 -- only the supervisor, which has started us, can write here
    return config
