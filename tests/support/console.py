"""The console as the API role serves it, in this process, and a client that keeps cookies as a browser does."""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import aiohttp
from yarl import URL

from bridge.console.application import console_application
from bridge.roles.api import api
from bridge.roles.lifetime import Lifetime
from bridge.settings.api_section import OVERRIDE, READ, WRITE
from bridge.settings.loading import load_settings
from bridge.tasks import wait_while_running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from multidict import CIMultiDictProxy

    from bridge.settings.sections import Settings

READER, WRITER, OVERRIDER = "reader", "writer", "overrider"
"""The names of three tokens: reads; also changes; also lifts complaints, erases and discards."""
_SCOPES: Final = {READER: (READ,), WRITER: (READ, WRITE), OVERRIDER: (READ, WRITE, OVERRIDE)}
_NOBODY: Final = "amqp://nobody:nothing@127.0.0.1:9/"
"""Where nobody listens."""
_CSRF: Final = re.compile(r'name="csrf" value="([0-9a-f]+)"')


def token_of(name: str) -> str:
    return f"the-token-of-{name}-in-tests"


TOKENS: Final = [f"{name}:{'+'.join(scopes)}:{token_of(name)}" for name, scopes in _SCOPES.items()]
"""For `api.tokens`."""
PATIENT: Final = {"connect_timeout": 20.0}
"""For `rabbitmq`: on a busy machine RabbitMQ may need longer than 3 s for a connection, and then the page says that it is down."""


def settings_of_list(database_url: str, **suppression: Any) -> Settings:
    """Of the console over this list, for pages that need nothing but the list. Args: its URL; more of its section."""
    return load_settings(
        overrides={
            "api": {"port": 0, "tokens": TOKENS},
            "rabbitmq": {"urls": [_NOBODY]},
            "suppression": {"database_url": database_url} | suppression,
            "health": {"port": 0},
        }
    )


def settings_without_rabbitmq(directory: Path, **changes: dict[str, Any]) -> Settings:
    """Of the console over a list of its own in this folder; nobody is where RabbitMQ should be.

    Args:
        directory: for the list and the files that the console writes.
        changes: section -> name -> value, beside or instead of ours.
    """
    ours: dict[str, dict[str, Any]] = {
        "api": {"port": 0, "tokens": TOKENS},
        "console": {"directory": f"{directory}/console"},
        "rabbitmq": {"urls": [_NOBODY]},
        "spool": {"directory": f"{directory}/spool"},
        "suppression": {"database_url": f"sqlite+aiosqlite:///{directory}/list.sqlite3"},
        "health": {"port": 0},
    }
    return load_settings(
        overrides={name: ours.get(name, {}) | changes.get(name, {}) for name in {*ours, *changes}}
    )


class Page(NamedTuple):
    status: int
    text: str
    headers: CIMultiDictProxy[str]

    @property
    def location(self) -> str:
        """Where it redirects to."""
        return self.headers["Location"]


@dataclass
class ConsoleClient:
    """Asks for pages. Paths are below /console, percent-encoded."""

    base: str
    """As http://127.0.0.1:8081/console."""
    session: aiohttp.ClientSession
    csrf: str = field(default="", init=False)
    """That of the session, after `sign_in`."""

    async def sign_in(self, name: str = OVERRIDER) -> None:
        """With the token of this name."""
        answer = await self.post("/sign-in", token=token_of(name), next="/")
        assert answer.status == 303, answer.text
        found = _CSRF.search((await self.get("/")).text)
        assert found is not None
        self.csrf = found[1]

    async def get(self, path: str, headers: Mapping[str, str] | None = None, /, **query: Any) -> Page:
        return await self._ask("GET", path, headers, query=query)

    async def fragment(self, path: str, /, **query: Any) -> Page:
        """As htmx asks."""
        return await self.get(path, {"HX-Request": "true"}, **query)

    async def post(self, path: str, headers: Mapping[str, str] | None = None, /, **fields: Any) -> Page:
        """A form, with the field `csrf` of the session unless it is given."""
        return await self._ask("POST", path, headers, data={"csrf": self.csrf} | fields)

    async def _ask(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None,
        *,
        query: Mapping[str, Any] | None = None,
        data: Mapping[str, Any] | None = None,
    ) -> Page:
        url = URL(self.base + path, encoded=True)
        if query:
            url = url.update_query({name: str(value) for name, value in query.items()})
        async with self.session.request(
            method, url, headers=headers, data=data, allow_redirects=False
        ) as answer:
            return Page(answer.status, await answer.text(), answer.headers)


@asynccontextmanager
async def console_client(base: str) -> AsyncIterator[ConsoleClient]:
    """Another browser: nobody is signed in. Args: as `ConsoleClient.base`."""
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
        yield ConsoleClient(base, session)


@asynccontextmanager
async def serving_console(settings: Settings) -> AsyncIterator[ConsoleClient]:
    """The API role with the console, until the context ends; nobody is signed in. Args: with `TOKENS` and a port 0."""
    lifetime = Lifetime()
    role = asyncio.create_task(api(settings, lifetime, console=console_application), name="api")
    try:
        await wait_while_running(lifetime.started, role)
        async with console_client(f"http://127.0.0.1:{lifetime.port}/console") as client:
            yield client
    finally:
        lifetime.stop.set()
        await asyncio.wait([role])
    role.result()
