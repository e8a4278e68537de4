"""What may be installed is what was tested: the bounds in pyproject.toml, and the locks that stand for them."""

from __future__ import annotations

import re
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.support.clean_environment import build_wheel

TREE = Path(__file__).parents[2]
PYPROJECT: dict[str, Any] = tomllib.loads((TREE / "pyproject.toml").read_text("utf-8"))
PROJECT: dict[str, Any] = PYPROJECT["project"]
PRODUCT: list[str] = PROJECT["dependencies"]
ASKED: dict[str, list[str]] = {
    "product": PRODUCT,
    "tracing": PRODUCT + PROJECT["optional-dependencies"]["tracing"],
    "dev": PRODUCT + PROJECT["optional-dependencies"]["dev"] + PYPROJECT["build-system"]["requires"],
    "bench": PRODUCT + PROJECT["optional-dependencies"]["bench"],
    "build": PYPROJECT["build-system"]["requires"],
    "pins": PYPROJECT["dependency-groups"]["pins"],
}
"""Lock -> what it is made of."""

OF_ONE_SERIES = ("aiohttp", "aio-pika", "aiormq", "pamqp")
"""Those whose parts are used beyond what they promise to keep."""

ENTRY = re.compile(r"([\w.-]+)==([\w.!]+)( ; [^\\\n]+)? \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)")


def pins(lock: str) -> dict[str, Version]:
    """Name -> version; fails where the lock has anything that is no pin with its hashes."""
    text = (TREE / "requirements" / f"{lock}.lock").read_text("utf-8")
    lines = "".join(line for line in text.splitlines(keepends=True) if not line.startswith("#"))
    assert ENTRY.sub("", lines) == ""
    return {canonicalize_name(found[1]): Version(found[2]) for found in ENTRY.finditer(lines)}


@pytest.mark.parametrize("lock", ASKED)
def test_a_lock_pins_all_that_is_asked_for_with_hashes(lock: str) -> None:
    """Within its bounds, and nothing in it says where from: an index, a folder or an address."""
    pinned = pins(lock)
    for asked in map(Requirement, ASKED[lock]):
        assert pinned[canonicalize_name(asked.name)] in asked.specifier, asked


def test_no_lock_is_forgotten() -> None:
    """There is none that this page does not look at."""
    assert {path.name for path in (TREE / "requirements").iterdir()} == {f"{lock}.lock" for lock in ASKED}


@pytest.mark.parametrize("lock", ["tracing", "dev", "bench"])
def test_what_is_tested_is_what_the_image_has(lock: str) -> None:
    """The same versions of the same packages, with others beside them."""
    assert pins("product").items() <= pins(lock).items()


@pytest.mark.parametrize("name", OF_ONE_SERIES)
def test_what_we_use_more_of_than_is_promised_stays_in_its_series(name: str) -> None:
    """`~=` down to the third number: the contract tests run on this series, and on no other."""
    (asked,) = (one for one in map(Requirement, PRODUCT) if one.name == name)
    (bound,) = asked.specifier
    running = Version(metadata.version(name))
    assert bound.operator == "~="
    assert Version(bound.version).release[:2] == running.release[:2]
    assert len(Version(bound.version).release) == 3
    assert running in asked.specifier


@pytest.mark.parametrize(
    "asked",
    sorted({*ASKED["dev"], *ASKED["bench"], *ASKED["pins"], *PROJECT["optional-dependencies"]["testing"]}),
)
def test_nothing_is_asked_for_without_an_end(asked: str) -> None:
    """The next major version is not known to work."""
    specifier = Requirement(asked).specifier
    assert not specifier.contains("9999.0"), asked
    assert {bound.operator for bound in specifier} & {"<", "~=", "=="}


@pytest.mark.parametrize("file", ["Makefile", "Dockerfile"])
def test_whatever_installs_checks_hashes(file: str) -> None:
    """All but the bridge itself, which comes without anything else."""
    text = (TREE / file).read_text("utf-8").replace("\\\n", " ")
    installs = re.findall(r"(?:pip\)|-m pip\b)[^&\n;]*? (?:install|wheel) [^&\n;]*", text)
    assert installs
    for command in installs:
        assert "--require-hashes" in command or "--no-deps" in command, command


def test_tests_run_on_the_python_of_the_image() -> None:
    """The one that `make test-py313` and the Dockerfile name."""
    dockerfile = (TREE / "Dockerfile").read_text("utf-8")
    assert set(re.findall(r"^FROM python:([\d.]+)-", dockerfile, re.MULTILINE)) == {"3.13"}
    assert "make test-py313" in (TREE / ".ci" / "run").read_text("utf-8")


@pytest.mark.parametrize("file", ["docker-compose.yml", "Dockerfile"])
def test_images_are_pinned_to_a_minor_version(file: str) -> None:
    """All but the one that is built here."""
    text = (TREE / file).read_text("utf-8")
    images: list[str] = re.findall(r"^(?:FROM|\s*image:) (\S+)", text, re.MULTILINE)
    others = [image for image in images if not image.startswith("${IMAGE")]
    assert others
    for image in others:
        assert re.search(r":v?\d+\.\d+", image), image


def test_the_wheel_says_that_it_has_types(tmp_path: Path) -> None:
    """`py.typed` is in it: type checkers read the annotations of a package that has it, and of no other."""
    with zipfile.ZipFile(build_wheel(tmp_path)) as packed:
        assert {"bridge/py.typed", "bridge/testing/recorder.py"} <= set(packed.namelist())
