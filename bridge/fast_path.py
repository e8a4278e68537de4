"""Decides whether this process takes the fast path: parts of its libraries that they do not promise to keep."""

from __future__ import annotations

import re
from importlib import metadata
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from bridge.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bridge.settings.sections import FastPath

log = logs.logger("fast_path")

# The fast path is taken where the installed versions are known; with any other its code is not even imported. Beside the
# versions it depends only on `configure`, which a process calls once at its start. docs/internals.md has the reasons.

KNOWN: Final[Mapping[str, tuple[int, int, int]]] = MappingProxyType(
    {"aiohttp": (3, 14, 5), "aio-pika": (10, 2, 1), "aiormq": (7, 2, 4), "pamqp": (4, 0, 1)}
)
"""Library -> the first version of a series that the contract tests have run on. Later ones of the series are known too.

`receiver.connection` depends on aiohttp; `amqp.wire`, `amqp.aiormq_internals` and `amqp.frames` depend on the others. The
list does not stand beside them, because they may not be importable with another version.
"""

_HTTP: Final = ("aiohttp",)
_AMQP: Final = ("aio-pika", "aiormq", "pamqp")
_RELEASE: Final = re.compile(r"(\d+)\.(\d+)\.(\d+)")
"""The version of a plain release: no release candidate, no build of somebody's own."""


class _Choice:
    """The setting of this process, and what it has logged already."""

    def __init__(self) -> None:
        self.setting: FastPath = "auto"
        self.logged: set[str] = set()


_choice: Final = _Choice()


def configure(setting: FastPath) -> None:
    """Set which parts this process may use. Call it before the first use; the default is `auto`."""
    _choice.setting = setting
    _choice.logged.clear()


def http_enabled() -> bool:
    """Whether the receiver handles connections by aiohttp's internals."""
    return _is_enabled("http", _HTTP)


def amqp_enabled() -> bool:
    """Whether publishes, confirms and deliveries bypass aiormq."""
    return _is_enabled("amqp", _AMQP)


def is_known(library: str, version: str) -> bool:
    """Whether this version is in the series that the contract tests have run on, and not older than what they ran on."""
    release = _RELEASE.fullmatch(version)
    if release is None:
        return False
    first, found = KNOWN[library], tuple(map(int, release.groups()))
    return found[:2] == first[:2] and found >= first


def _is_enabled(part: str, libraries: Sequence[str]) -> bool:
    if _choice.setting not in {"auto", part}:
        _log_off(part, reason=f"development.fast_path is '{_choice.setting}'")
        return False
    unknown = [library for library in libraries if not is_known(library, _installed_version(library))]
    for library in unknown:
        _log_off(
            part,
            library=library,
            version=_installed_version(library),
            known=_series(library),
            reason="the contract tests have not run on this version",
        )
    return not unknown


def _installed_version(library: str) -> str:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return "unknown"


def _series(library: str) -> str:
    return "~= " + ".".join(map(str, KNOWN[library]))


def _log_off(part: str, *, reason: str, library: str = "", **more: str) -> None:
    """Log it once in a process for each library, or for each part that the setting turns off."""
    if (subject := library or part) in _choice.logged:
        return
    _choice.logged.add(subject)
    details = {"library": library} | more if library else {}
    log.warning(
        "the fast path is off: the slower plain path is used",
        action="fast_path.off",
        part=part,
        reason=reason,
        **details,
    )
