"""The fast path is taken with the versions that the contract tests ran on, unless the setting turns it off."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from packaging.requirements import Requirement
from structlog.testing import capture_logs

from bridge import fast_path
from bridge.settings.sections import Development

if TYPE_CHECKING:
    from collections.abc import Iterator

TREE = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def as_at_the_start() -> Iterator[None]:
    """Each test starts with the default, and leaves it behind."""
    fast_path.configure("auto")
    yield
    fast_path.configure("auto")


@pytest.fixture
def versions(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Library -> version, instead of the one that is installed."""
    instead: dict[str, str] = {}
    installed = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: instead.get(name) or installed(name))
    return instead


@pytest.mark.parametrize(
    ("version", "known"),
    [
        ("7.2.4", True),
        ("7.2.19", True),
        ("7.2.3", False),
        ("7.3.0", False),
        ("7.10.4", False),
        ("8.0.0", False),
        ("6.9.9", False),
        ("7.2", False),
        ("7.2.5rc1", False),
        ("7.2.4+debian1", False),
        ("", False),
    ],
)
def test_a_version_is_known_within_its_series_from_the_first_that_was_tested(
    version: str, *, known: bool
) -> None:
    """A version that is no plain release may have been changed by anybody."""
    assert fast_path.is_known("aiormq", version) is known


def test_the_known_versions_are_those_that_may_be_installed() -> None:
    """They are the bounds in pyproject.toml, and the tests run on one of them."""
    dependencies = tomllib.loads((TREE / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
    asked = {one.name: str(one.specifier) for one in map(Requirement, dependencies)}
    for library, release in fast_path.KNOWN.items():
        assert asked[library] == "~=" + ".".join(map(str, release))
        assert fast_path.is_known(library, metadata.version(library))
    assert fast_path.http_enabled()
    assert fast_path.amqp_enabled()


@pytest.mark.parametrize(
    ("setting", "http", "amqp"),
    [("auto", True, True), ("http", True, False), ("amqp", False, True), ("off", False, False)],
)
def test_the_setting_selects_the_parts(setting: str, *, http: bool, amqp: bool) -> None:
    """Each can be measured with and without the other; a part that is off is logged with the reason."""
    section = Development.model_validate({"fast_path": setting})
    fast_path.configure(section.fast_path)
    with capture_logs() as logged:
        assert (fast_path.http_enabled(), fast_path.amqp_enabled()) == (http, amqp)
    assert {line["part"] for line in logged} == {"http"} - {http and "http"} | {"amqp"} - {amqp and "amqp"}
    assert all(setting in line["reason"] for line in logged)


@pytest.mark.parametrize("library", ["aio-pika", "aiormq", "pamqp", "aiohttp"])
def test_an_unknown_version_is_logged_once(library: str, versions: dict[str, str]) -> None:
    """With the library, its version and the known versions; the other part of the fast path stays on."""
    versions[library] = "99.0.0"
    with capture_logs() as logged:
        for _ in range(3):
            assert fast_path.http_enabled() is (library != "aiohttp")
            assert fast_path.amqp_enabled() is (library == "aiohttp")
    (line,) = logged
    assert (line["action"], line["log_level"]) == ("fast_path.off", "warning")
    assert (line["library"], line["version"]) == (library, "99.0.0")
    assert line["known"] == "~= " + ".".join(map(str, fast_path.KNOWN[library]))


def test_a_library_without_a_version_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as one that was copied into the folder of the bridge."""

    def none(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", none)
    with capture_logs() as logged:
        assert not fast_path.http_enabled()
        assert not fast_path.amqp_enabled()
    assert sorted(line["library"] for line in logged) == sorted(fast_path.KNOWN)


def test_the_page_on_internals_names_every_part() -> None:
    """docs/internals.md names each module that uses internals of a library, and the tests that notice a change."""
    page = (TREE / "docs" / "internals.md").read_text("utf-8")
    named = set(re.findall(r"`((?:bridge|tests)/[\w/]+\.py)`", page))
    assert {path for path in named if not (TREE / path).is_file()} == set()
    for module in ("receiver/connection", "amqp/wire", "amqp/aiormq_internals", "amqp/frames", "fast_path"):
        assert f"bridge/{module}.py" in named
    for test in ("unit/test_aiohttp_contract", "unit/test_aiormq_contract", "integration/test_both_paths"):
        assert f"tests/{test}.py" in named
