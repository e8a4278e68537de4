"""What a command prints where it cannot be printed: a full disk, a closed pipe, an encoding without the characters."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from bridge.suppression.store import Store
from tests.support.commands import bridge
from tests.support.warm_starts import start_bridge

if TYPE_CHECKING:
    from pathlib import Path

SUPPRESSED = "jané@example.org"
FREE = "john@example.org"
UNKNOWN = "bridge: cannot write to standard output: No space left on device; some output is lost\n"
LIST = "sqlite+aiosqlite:///list.sqlite3"


@pytest.fixture
async def directory(tmp_path: Path) -> Path:
    """A folder with a list."""
    async with Store.open(f"sqlite+aiosqlite:///{tmp_path}/list.sqlite3") as store:
        await store.add(SUPPRESSED, actor="test", note="—")
    return tmp_path


async def ran(directory: Path, *arguments: str, fresh: bool = False) -> tuple[int, str]:
    """Exit code and standard error of a command whose standard output goes to a full disk."""
    full = os.open("/dev/full", os.O_WRONLY)
    process = await start_bridge(
        *arguments,
        cwd=directory, env=os.environ | {"BRIDGE_SUPPRESSION__DATABASE_URL": LIST}, stdout=full, fresh=fresh,
    )  # fmt: skip
    os.close(full)
    _, said = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode()


@pytest.mark.parametrize("as_json", [[], ["--json"]])
async def test_a_suppressed_address_is_reported_by_the_exit_code_on_a_full_disk(
    directory: Path, as_json: list[str]
) -> None:
    """Whatever is printed of it, or not."""
    code, said = await ran(directory, "suppressions", "check", SUPPRESSED, *as_json)
    assert (code, "Traceback" in said) == (3, False)


@pytest.mark.parametrize("as_json", [[], ["--json"]])
async def test_an_address_that_is_not_suppressed_is_unknown_on_a_full_disk(
    directory: Path, as_json: list[str]
) -> None:
    """Its 0 would say that the answer was printed."""
    assert await ran(directory, "suppressions", "check", FREE, *as_json) == (1, UNKNOWN)


@pytest.mark.parametrize(
    ("arguments", "also"),
    [
        (["suppressions", "list"], "1 of 1\n"),
        (["config", "show", "--json"], ""),
        (["topology", "export"], ""),
        (["--help"], ""),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
async def test_output_that_is_lost_is_no_success(directory: Path, arguments: list[str], also: str) -> None:
    """One line, exit code 1, no traceback, and no 120, which is what the end of Python makes of it."""
    fresh = arguments == ["--help"]
    assert await ran(directory, *arguments, fresh=fresh) == (1, also + UNKNOWN)


@pytest.mark.parametrize(("address", "code"), [(SUPPRESSED, 3), (FREE, 0)])
async def test_an_encoding_without_the_characters_changes_no_exit_code(
    directory: Path, address: str, code: int
) -> None:
    """They are written as escapes."""
    said = await bridge(
        "suppressions", "check", address, directory=directory,
        BRIDGE_SUPPRESSION__DATABASE_URL=LIST, PYTHONIOENCODING="ascii",
    )  # fmt: skip
    assert (said.code, said.stderr) == (code, "")


@pytest.mark.parametrize("as_json", [[], ["--json"]])
async def test_a_closed_pipe_changes_nothing_for_a_suppressed_address(
    directory: Path, as_json: list[str]
) -> None:
    """A pipe whose reader has gone before anything was written."""
    reader, writer = os.pipe()
    os.close(reader)
    process = await start_bridge(
        "suppressions", "check", SUPPRESSED, *as_json,
        cwd=directory, env=os.environ | {"BRIDGE_SUPPRESSION__DATABASE_URL": LIST}, stdout=writer,
    )  # fmt: skip
    os.close(writer)
    _, said = await process.communicate()
    assert (process.returncode, said) == (3, b"")
