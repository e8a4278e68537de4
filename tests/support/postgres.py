"""A PostgreSQL of the tests' own: own folder, own port, own superuser; never the system's."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import uuid
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import asyncpg
from yarl import URL

from tests.support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

DATA_VARIABLE: Final = "TEST_POSTGRESQL_DATA"
"""A folder of data as `initdb` makes it: a server copies it, where it is set, for `initdb` takes two seconds of CPU."""
OWNER: Final = "postgres"
"""The superuser, and the system's user under whom the server runs where the tests run as root."""
PASSWORD: Final = "a-password-of-the-tests"
_START_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 30.0
_LOOK_EVERY_SECONDS: Final = 0.05

_SETTINGS: Final = """
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = '{folder}'
fsync = on
max_connections = 200
shared_buffers = 64MB
log_line_prefix = '%m [%p] %a %d '
"""


_EMPTYING: Final = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid();
DROP SCHEMA public CASCADE;
CREATE SCHEMA public;
GRANT USAGE ON SCHEMA public TO PUBLIC;
"""
"""What empties a database. The tests have no other schemas in those that are lent."""


class Server:
    """One server in a folder of its own. It keeps its port and its data when it is started again."""

    def __init__(self, folder: Path, *, settings: str = "") -> None:
        """Make its data; nothing runs yet.

        Args:
            folder: for everything it writes; must be there, and open to the user it runs as.
            settings: further lines of `postgresql.conf`.
        """
        self._programs = _programs()
        self._folder = folder
        self._data = folder / "data"
        self._process: asyncio.subprocess.Process | None = None
        self.log = folder / "output.log"
        self._port = free_port()
        if DATA_VARIABLE in os.environ:
            subprocess.run(["cp", "-a", os.environ[DATA_VARIABLE], self._data], check=True)
        else:
            make_data(self._data)
        with (self._data / "postgresql.conf").open("a") as file:
            file.write(_SETTINGS.format(port=self._port, folder=folder) + settings)

    @classmethod
    @asynccontextmanager
    async def running(cls, *, settings: str = "") -> AsyncIterator[Self]:
        """A server for as long as the context lasts; nothing of it stays behind."""
        with tempfile.TemporaryDirectory(prefix="bridge-postgres-") as folder:
            give(Path(folder))
            server = await asyncio.to_thread(cls, Path(folder), settings=settings)
            try:
                await server.start()
                yield server
            finally:
                await server.stop()

    @property
    def pid(self) -> int:
        assert self._process is not None, "it does not run"
        return self._process.pid

    def url(self, database: str = OWNER, *, user: str = OWNER, password: str = PASSWORD) -> str:
        """As `suppression.database_url` takes it."""
        address = URL.build(scheme="postgresql+asyncpg", host="127.0.0.1", port=self._port)
        return str(address.with_user(user).with_password(password).with_path(f"/{database}"))

    async def start(self) -> None:
        """Start it; returns when it answers."""
        with self.log.open("ab") as sink:
            self._process = await asyncio.create_subprocess_exec(
                *as_server(), self._programs / "postgres", "-D", self._data,
                stdin=asyncio.subprocess.DEVNULL, stdout=sink, stderr=sink,
                cwd=self._folder, start_new_session=True,
            )  # fmt: skip
        async with asyncio.timeout(_START_SECONDS):
            while not await answers(self.url()):
                assert self._process.returncode is None, self.log.read_text()
                await asyncio.sleep(_LOOK_EVERY_SECONDS)

    async def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop it: SIGINT is its "fast" way, which rolls everybody back; SIGQUIT the "immediate" one, like a crash."""
        if self._process is None:
            return
        with suppress(ProcessLookupError):
            self.resume()
            self._process.send_signal(how)
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        self._process = None

    async def kill(self) -> None:
        """SIGKILL to all of it; returns when nothing of it runs any more, and `start` may come."""
        if self._process is None:
            return
        of_it = [self.pid, *_children(self.pid)]
        for process in of_it:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        await self._process.wait()
        self._process = None
        while any(map(_is_there, of_it)):  # noqa: ASYNC110 -- they are not our children
            await asyncio.sleep(_LOOK_EVERY_SECONDS)

    def pause(self) -> None:
        """SIGSTOP to all of it: connections stay open, new ones are taken by the kernel, and nobody answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)
        for child in _children(self.pid):
            with suppress(ProcessLookupError):
                os.kill(child, number)


class Databases:
    """Databases on a running server, one for each that asks."""

    def __init__(self, url: str) -> None:
        """Take the URL of a database in which its superuser can say CREATE DATABASE."""
        self._url = url

    async def fresh(self, template: str = "template1") -> str:
        """The URL of a new database."""
        name = f"t{uuid.uuid4().hex[:12]}"
        await execute(self._url, f"CREATE DATABASE {name} TEMPLATE {template}")
        return str(URL(self._url).with_path(f"/{name}"))

    async def drop(self, url: str) -> None:
        """Away with it, whoever is connected."""
        await execute(self._url, f"DROP DATABASE IF EXISTS {URL(url).path.removeprefix('/')} WITH (FORCE)")


class LentDatabases:
    """Databases that are used again: to make one and to drop it takes a dozen times what it takes to empty one."""

    def __init__(self, url: str) -> None:
        """Take the URL of a database in which its superuser can say CREATE DATABASE."""
        self._databases = Databases(url)
        self._free: list[str] = []

    @asynccontextmanager
    async def lent(self, script: str = "") -> AsyncIterator[str]:
        """The URL of a database with nothing in it but what this script makes. Whoever was connected no longer is."""
        url = self._free.pop() if self._free else await self._databases.fresh()
        await execute(url, _EMPTYING + script)
        yield url
        self._free.append(url)


async def dumped(url: str) -> str:
    """A script that makes what is in a database."""
    process = await asyncio.create_subprocess_exec(
        _programs() / "pg_dump", "--inserts", plain(url),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    script, _ = await process.communicate()
    assert process.returncode == 0
    # A line with a backslash is for `psql`.
    return "".join(line for line in script.decode().splitlines(keepends=True) if not line.startswith("\\"))


async def execute(url: str, *statements: str) -> None:
    """Each in a transaction of its own."""
    connection = await asyncpg.connect(plain(url))
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def query(url: str, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    """The rows of one statement."""
    connection = await asyncpg.connect(plain(url))
    try:
        return [tuple(row) for row in await connection.fetch(statement, *values)]
    finally:
        await connection.close()


async def answers(url: str) -> bool:
    """Whether one can connect."""
    try:
        connection = await asyncpg.connect(plain(url), timeout=2)
    except (OSError, asyncpg.PostgresError):
        return False
    await connection.close()
    return True


def is_postgresql(url: str) -> bool:
    return url.startswith("postgres")


def plain(url: str) -> str:
    """As the driver takes it."""
    return str(URL(url).with_scheme("postgresql")) if is_postgresql(url) else url


def _programs() -> Path:
    """Where `initdb` and `postgres` are: Debian keeps them out of everybody's PATH."""
    found = shutil.which("postgres")
    if found is not None and shutil.which("initdb", path=str(Path(found).parent)) is not None:
        return Path(found).resolve().parent
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    assert debian, "there is no PostgreSQL server here: Debian has it in the package `postgresql`"
    return debian[-1].parent


def as_server() -> Sequence[str]:
    """PostgreSQL refuses to run as root: there is a user for it wherever its package is."""
    if os.getuid() != 0:
        return ()
    return ("setpriv", f"--reuid={OWNER}", f"--regid={OWNER}", "--init-groups", "--reset-env")


def give(folder: Path) -> None:
    """Hand it to the user under whom the server runs."""
    if os.getuid() == 0:
        user = pwd.getpwnam(OWNER)
        os.chown(folder, user.pw_uid, user.pw_gid)


def make_data(data: Path) -> None:
    """What a server starts with, in a folder that its user can write to.

    With a language's order of text, which is not that of code points: the list must not depend on it.
    """
    secret = data.parent / "password"
    secret.write_text(PASSWORD)
    give(secret)
    made = subprocess.run(
        [
            *as_server(), _programs() / "initdb", "--pgdata", data, "--username", OWNER,
            "--pwfile", secret, "--auth", "scram-sha-256", "--no-instructions", "--no-sync",
            "--encoding", "UTF8", "--locale", "C.UTF-8", "--locale-provider", "icu", "--icu-locale", "en",
        ],
        check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=data.parent,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr


def _is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def _children(pid: int) -> list[int]:
    """The processes that a PostgreSQL has for its connections and its chores."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
