"""A PgBouncer of the tests' own in front of a PostgreSQL of the tests."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from yarl import URL

from tests.support.ports import free_port
from tests.support.postgres import OWNER, PASSWORD, as_server, give

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PGBOUNCER: Final = shutil.which("pgbouncer")
_START_SECONDS: Final = 30.0

_SETTINGS: Final = """
[databases]
* = host={host} port={port} user={user} password={password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {own}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {folder}/users.txt
pool_mode = {mode}
default_pool_size = {size}
"""


@asynccontextmanager
async def pooled(url: str, mode: str, *, size: int = 20) -> AsyncIterator[str]:
    """The URL of the same database through a PgBouncer in this pool mode; `size` sessions are all that it has."""
    assert PGBOUNCER is not None
    target = URL(url)
    with tempfile.TemporaryDirectory(prefix="bridge-pgbouncer-") as name:
        folder, own = Path(name), free_port()
        (folder / "users.txt").write_text(f'"{OWNER}" "{PASSWORD}"\n')
        (folder / "pgbouncer.ini").write_text(
            _SETTINGS.format(
                host=target.host, port=target.port, user=OWNER, password=PASSWORD,
                own=own, folder=folder, mode=mode, size=size,
            )
        )  # fmt: skip
        for path in (folder, folder / "users.txt", folder / "pgbouncer.ini"):
            give(path)
        process = await asyncio.create_subprocess_exec(
            *as_server(), PGBOUNCER, folder / "pgbouncer.ini",
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
            cwd=folder, start_new_session=True,
        )  # fmt: skip
        try:
            async with asyncio.timeout(_START_SECONDS):
                while not await _listens(own):
                    assert process.returncode is None, "pgbouncer has ended"
                    await asyncio.sleep(0.05)
            yield str(target.with_port(own))
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True
