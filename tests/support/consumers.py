"""The consumers of docs/consumers, run as somebody runs who has copied them: a file, its variables, and what it has done."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import sys
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import orjson

from tests.support.processes import Process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PATIENCE_SECONDS: Final = 120
FOLDER: Final = Path(__file__).parents[2] / "docs" / "consumers"
_LOOK_EVERY_SECONDS: Final = 0.1


class Consumer:
    """One of them, in a folder of its own. It may be started again after it has ended."""

    def __init__(self, name: str, folder: Path, node_modules: Path | None, **variables: str) -> None:
        """Copy it.

        Args:
            name: of the file.
            folder: for the copy, and for what it writes.
            node_modules: what it imports, if it runs on Node.
            variables: its environment, beside that of the tests.
        """
        self._on_node = name.endswith(".mjs")
        self.effects = folder / ("effects.jsonl" if self._on_node else "effects.sqlite3")
        self._program = Path(shutil.copy(FOLDER / name, folder))
        self._environment = os.environ | variables | {"EFFECTS": str(self.effects)}
        self._processes: list[Process] = []
        if node_modules is not None:
            (folder / "node_modules").symlink_to(node_modules)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill_now()
            await process.ended()

    async def start(self) -> Process:
        program = "node" if self._on_node else sys.executable
        process = await asyncio.create_subprocess_exec(
            program, self._program,
            cwd=self._program.parent, env=self._environment, stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        self._processes.append(Process(process))
        return self._processes[-1]

    async def has_done(self, count: int) -> None:
        """When so many effects are there."""
        await _patiently(lambda: self._count() >= count)

    async def has_listed(self, count: int) -> None:
        """When so many addresses are in the copy of the list."""
        await _patiently(lambda: self._rows("list") >= count)

    async def lists(self, addresses: set[str]) -> None:
        """When exactly these addresses are suppressed in the copy of the list."""
        listed = "SELECT address FROM list WHERE suppressed"
        await _patiently(lambda: {address for (address,) in self.query(listed)} == addresses)

    def done(self) -> list[str]:
        """The id of each event that has had its effect, as often as it has had it."""
        if self._on_node:
            return [orjson.loads(line)["id"] for line in self.effects.read_bytes().splitlines()]
        return [str(event_id) for (event_id,) in self.query("SELECT id FROM effects")]

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """Of a consumer in Python: from the database that it writes; nothing before it has made its tables."""
        with closing(sqlite3.connect(self.effects, timeout=PATIENCE_SECONDS)) as database, database:
            try:
                return database.execute(statement).fetchall()
            except sqlite3.OperationalError as error:
                if "no such table" not in str(error):
                    raise
                return []

    @contextmanager
    def failing(self) -> Iterator[None]:
        """Meanwhile its work fails: what it writes to is not there."""
        away = self.effects.with_suffix(".away")
        if self._on_node:
            self.effects.rename(away)
            self.effects.mkdir()
        else:
            self.query("ALTER TABLE effects RENAME TO away")
        yield
        if self._on_node:
            self.effects.rmdir()
            away.rename(self.effects)
        else:
            self.query("ALTER TABLE away RENAME TO effects")

    def _count(self) -> int:
        if not self._on_node:
            return self._rows("effects")
        return self.effects.read_bytes().count(b"\n") if self.effects.exists() else 0

    def _rows(self, table: str) -> int:
        return sum(count for (count,) in self.query(f"SELECT count(*) FROM {table}"))  # noqa: S608 -- our own names


async def _patiently(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not holds():  # noqa: ASYNC110 -- another process writes it: there is no event to await
            await asyncio.sleep(_LOOK_EVERY_SECONDS)
