"""What tests/node/package-lock.json locks, installed once for all tests that run a program on Node."""

from __future__ import annotations

import fcntl
import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

_LOCKED: Final = Path(__file__).parents[1] / "node"
_FILES: Final = ("package.json", "package-lock.json", ".npmrc")
_OLDEST_NODE: Final = 20
_UNREACHABLE: Final = re.compile(
    r"ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|EHOSTUNREACH"
)
"""npm's codes for a registry that does not answer; every other failure is one of the tests."""
_PATIENCE_SECONDS: Final = 100


class NoNodeError(Exception):
    """Programs cannot be run on Node here; the message says why."""


def node_modules() -> Path:
    """The folder `node_modules` with what is locked; it is made if nobody has made it yet.

    It lies in Python's environment under the hash of the lock, so that another lock gets another folder, and
    `make clean` removes it. Test processes wait for the one that installs.

    Raises:
        NoNodeError: there is no Node 20 or newer here, or the registry does not answer.
    """
    _check_node()
    digest = hashlib.sha256(b"".join((_LOCKED / name).read_bytes() for name in _FILES)).hexdigest()
    folder = Path(sys.prefix, f"node-{digest[:16]}")
    with Path(sys.prefix, ".node-lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            _install(folder)
    return folder / "node_modules"


def _check_node() -> None:
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise NoNodeError(f"there is no Node {_OLDEST_NODE} or newer with npm on this machine")
    said = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
    if int(said.removeprefix("v").partition(".")[0]) < _OLDEST_NODE:
        raise NoNodeError(f"Node {_OLDEST_NODE} or newer is needed, and this machine has {said.strip()}")


def _install(folder: Path) -> None:
    """Beside it, and renamed when it is whole: a killed run leaves nothing that looks finished."""
    unfinished = folder.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    for name in _FILES:
        shutil.copy(_LOCKED / name, unfinished)
    try:
        done = subprocess.run(
            ["npm", "ci", "--fetch-retries=1", "--prefer-offline"],
            cwd=unfinished, capture_output=True, text=True, check=False, timeout=_PATIENCE_SECONDS,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise NoNodeError(f"npm did not install tests/node in {_PATIENCE_SECONDS} s") from None
    if done.returncode and _UNREACHABLE.search(done.stderr):
        raise NoNodeError("npm's registry does not answer")
    assert done.returncode == 0, f"npm ci in tests/node: {done.stderr}"
    unfinished.rename(folder)
