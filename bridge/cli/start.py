"""What each command starts with: the settings, and the path that this process takes through its libraries."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bridge import fast_path
from bridge.settings.loading import load_settings

if TYPE_CHECKING:
    from pathlib import Path

    from bridge.settings.sections import Settings


def settings(config: Path | None) -> Settings:
    """Load the settings, and choose the path that they ask for.

    Raises:
        InvalidSettingsError: they are not usable.
    """
    loaded = load_settings(config)
    fast_path.configure(loaded.development.fast_path)
    return loaded
