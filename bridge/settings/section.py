"""What every section of the settings has in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A section of the settings. Times are in seconds and sizes in bytes; `config/bridge.toml` says what each setting is for."""

    model_config = ConfigDict(extra="forbid", frozen=True)
