"""`config/bridge.toml` says what `bridge/settings/sections.py` says."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from bridge.settings import sections
from bridge.settings.loading import load_settings
from bridge.settings.sources import ENVIRONMENT_PREFIX
from bridge.settings.subscribers import Subscriber

FILE = Path(__file__).parents[2] / "config" / "bridge.toml"

DEFAULT = re.compile(r"^#(?=\w+ = )", re.MULTILINE)
"""One sign in front of a setting at its default."""
EXAMPLE = re.compile(r"^##(?=\w+ = |\[\[)", re.MULTILINE)
"""Two in front of an example of a setting that has no default."""


@pytest.fixture(autouse=True)
def no_other_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a developer has in the environment must not stand in for the file."""
    for name in os.environ:
        if name.upper().startswith(ENVIRONMENT_PREFIX):
            monkeypatch.delenv(name)


@pytest.fixture
def text() -> str:
    return FILE.read_text()


def test_every_setting_is_in_the_file_and_nothing_else_is(text: str) -> None:
    """With all signs taken away, its keys are those of the settings, and its other section the subscribers'."""
    document = tomllib.loads(EXAMPLE.sub("", DEFAULT.sub("", text)))
    assert [list(subscriber) for subscriber in document.pop("subscribers")] == [list(Subscriber.model_fields)]
    assert [f"{section}.{name}" for section, names in document.items() for name in names] == [
        knob.key for knob in sections.setting_names()
    ]


def test_the_file_as_it_comes_changes_nothing(tmp_path: Path, text: str) -> None:
    """Whoever copies it and starts has the defaults."""
    assert loaded(tmp_path, text) == defaults()


def test_the_values_in_the_file_are_the_defaults(tmp_path: Path, text: str) -> None:
    """Uncommented, all of them, they are exactly what is in force without a file."""
    assert loaded(tmp_path, DEFAULT.sub("", text)) == defaults()


def test_only_settings_without_a_default_are_left_out_of_the_defaults(text: str) -> None:
    """Two signs are for those that TOML cannot write: no value."""
    given = tomllib.loads(DEFAULT.sub("", text))
    left_out = {knob.key for knob in sections.setting_names() if knob.key not in keys_of(given)}
    assert left_out == {key for key, value in valued(defaults()).items() if value is None}


def test_the_examples_in_the_file_are_valid(tmp_path: Path, text: str) -> None:
    """Where there is no default, what stands there can be used as it stands."""
    settings = load_settings(written(tmp_path, EXAMPLE.sub("", text)))
    assert settings.provider.api_token is not None
    assert settings.provider.reserve_url == sections.PROVIDER_RESERVE_URL
    assert [subscriber.queue for subscriber in settings.subscribers] == ["crm"]


def test_every_setting_is_explained(text: str) -> None:
    """No setting stands without a comment in the block of lines that it is in."""
    blocks = [block.splitlines() for block in text.split("\n\n")]
    unexplained = [
        line
        for block in blocks
        for line in block
        if DEFAULT.match(line) and not any(other.startswith("# ") for other in block)
    ]
    assert unexplained == []


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "bridge.toml"
    path.write_text(text)
    return path


def loaded(tmp_path: Path, text: str) -> dict[str, Any]:
    return load_settings(written(tmp_path, text)).model_dump()


def defaults() -> dict[str, Any]:
    return load_settings().model_dump()


def keys_of(document: dict[str, dict[str, Any]]) -> set[str]:
    return {f"{section}.{name}" for section, names in document.items() for name in names}


def valued(document: dict[str, Any]) -> dict[str, Any]:
    return {knob.key: document[(key := knob.key.split("."))[0]][key[1]] for knob in sections.setting_names()}
