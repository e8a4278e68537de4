"""Reads the settings from all their sources, in their order of precedence."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsError,
)

from bridge.settings import sources
from bridge.settings.errors import InvalidSettingsError
from bridge.settings.section import Section
from bridge.settings.sections import Settings, setting_names
from bridge.settings.sources import ENVIRONMENT_PREFIX, SECRETS_VARIABLE, Origin
from bridge.settings.values import complaint_of
from bridge.text import collapse

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def load_settings(
    config: Path | None = None, overrides: Mapping[str, Mapping[str, Any]] | None = None
) -> Settings:
    """Read the settings. The order of precedence: overrides (command line), environment, secrets, file, defaults.

    Args:
        config: the TOML file; None: the one that `BRIDGE_CONFIG` names, if any.
        overrides: section -> name -> value, from the command line.

    Raises:
        InvalidSettingsError: an unknown key, a bad value, or a file that cannot be read.
    """
    texts = _texts()
    path = texts.config(config)
    of_variables, of_secrets, of_file = (
        texts.of_variables(),
        texts.of_secrets(),
        sources.read_settings(path),
    )

    class Sourced(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            del env_settings, dotenv_settings, file_secret_settings
            return (
                init_settings,
                _TextSource(settings_cls, of_variables),
                _TextSource(settings_cls, of_secrets),
                InitSettingsSource(settings_cls, of_file),
            )

    try:
        loaded = Sourced(**(overrides or {}))  # type: ignore[arg-type]  # sections are validated by pydantic
    except ValidationError as invalid:
        raise InvalidSettingsError(complaint_of(invalid)) from None
    except SettingsError as unreadable:
        raise InvalidSettingsError(collapse(_unreadable(unreadable))) from None
    by_option = {f"{section}__{name}" for section, names in (overrides or {}).items() for name in names}
    files = {key.replace("__", "."): file for key, file in texts.files().items() if key not in by_option}
    fingerprint = sources.fingerprint(of_file, without=_secrets())
    loaded._origin = Origin(files, path, fingerprint)  # noqa: SLF001 -- of our own class
    return loaded


def foreign_variables() -> list[str]:
    """Variables with our prefix that are not settings: a platform or another program has set them. They are ignored."""
    return _texts().foreign()


class _TextSource(EnvSettingsSource):
    """Settings that come as text, by the name `section__name`."""

    def __init__(self, settings: type[BaseSettings], texts: Mapping[str, str]) -> None:
        self._texts = texts
        super().__init__(settings, env_prefix="")

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return dict(self._texts)


def _texts() -> sources.TextSources:
    return sources.TextSources(
        os.environ,
        names=[name.key.replace(".", "__") for name in setting_names()],
        sections=list(Settings.model_fields),
    )


def _secrets() -> frozenset[str]:
    """`section.name` of each setting that is or may hold a secret."""
    return frozenset(
        f"{section}.{name}"
        for section, field in Settings.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
        for name, of_section in field.annotation.model_fields.items()
        if SecretStr.__name__ in str(of_section.annotation)
    )


def _unreadable(error: SettingsError) -> str:
    """The message for a section that is given as a whole, and is not JSON."""
    found = re.search(r'field "(\w+)"', str(error))
    section = found[1] if found else "a section"
    return (
        f"{section}: given as a whole (as {ENVIRONMENT_PREFIX}{section.upper()}, or in a file of "
        f"{SECRETS_VARIABLE}) it must be JSON"
    )
