"""A virtual environment with what `pip install PACKAGE[EXTRA]` would put there, and nothing else, without asking an index."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
import zipfile
from email.parser import BytesParser
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import Requirement

if TYPE_CHECKING:
    from collections.abc import Iterable

TREE = Path(__file__).parents[2]


def build_wheel(folder: Path) -> Path:
    """The bridge's, made in an empty folder with the build backend that requirements/build.lock pins."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", folder],
        cwd=TREE, check=True, stdin=subprocess.DEVNULL, capture_output=True,
    )  # fmt: skip
    (wheel,) = folder.iterdir()
    return wheel


def clean_environment(folder: Path, wheel: Path, *, extra: str) -> Path:
    """Make it; returns its Python.

    pip installs the wheel. What the wheel requires, and what that requires in turn, is linked out of the environment in which
    the tests run, so it has the versions that the lock pins.
    """
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index",
         "--no-compile", "--disable-pip-version-check", wheel],
        check=True, stdin=subprocess.DEVNULL, capture_output=True,
    )  # fmt: skip
    packages = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder)}))
    for found in _required(_requirements_of(wheel), extra):
        _link(found, packages)
    return python


def _requirements_of(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as packed:
        (name,) = (one for one in packed.namelist() if one.endswith(".dist-info/METADATA"))
        return BytesParser().parsebytes(packed.read(name)).get_all("Requires-Dist", [])


def _required(requirements: Iterable[str], extra: str) -> list[metadata.Distribution]:
    """What these requirements ask for, and whatever that asks for in turn."""
    found: dict[tuple[str, str], metadata.Distribution] = {}
    wanted = [(one, extra) for one in requirements]
    while wanted:
        text, of_extra = wanted.pop()
        asked = Requirement(text)
        if asked.marker is not None and not asked.marker.evaluate({"extra": of_extra}):
            continue
        distribution = metadata.distribution(asked.name)
        for part in ("", *asked.extras):
            if (asked.name, part) not in found:
                found[asked.name, part] = distribution
                wanted += [(one, part) for one in distribution.requires or ()]
    return list(found.values())


def _link(distribution: metadata.Distribution, packages: Path) -> None:
    for name in {file.parts[0] for file in distribution.files or () if file.parts[0] != ".."}:
        into = packages / name
        if not into.exists() and name != "__pycache__":
            into.symlink_to(Path(str(distribution.locate_file(name))))
