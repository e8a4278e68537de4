"""Which version of the bridge runs."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def own_version() -> str:
    """The version of the installed package; `unknown` in a checkout that was never installed."""
    try:
        return version("bridge")
    except PackageNotFoundError:  # run from a checkout that was never installed
        return "unknown"
