"""The API in this process, over a real list, and a client of it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import aiohttp
import orjson
from pydantic import SecretStr
from yarl import URL

from bridge.api import server
from bridge.api.access import Access
from bridge.api.application import FEED, Parts, application
from bridge.api.freshness import Freshness
from bridge.api.open_list import OpenList
from bridge.broker.topology import Names
from bridge.contract.files import contract_files
from bridge.settings.api_section import CHECK, SCOPES, Api, ApiToken
from bridge.settings.list_sections import Suppression
from bridge.suppression.address_keys import keys_of
from bridge.suppression.store import Store
from bridge.telemetry.metrics import Metrics
from tests.support.clock import Clock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp import web
    from multidict import CIMultiDictProxy

    from bridge.api.changes import Feed

NOW: Final = 1_700_000_000
ALL: Final = "all"
"""The name of a token with every scope; each scope also has a token of its own, whose name it is."""


def token_of(name: str) -> str:
    return f"the-token-of-{name}-in-tests"


TOKENS: Final = (
    ApiToken(ALL, frozenset(SCOPES), token_of(ALL)),
    *(ApiToken(scope, frozenset({scope}), token_of(scope)) for scope in SCOPES),
)

CHECK_HEADERS: Final = {"Authorization": f"Bearer {token_of(CHECK)}", "Content-Type": "application/json"}
"""Of a check by whoever sends it without `ApiClient.ask`."""


class Answer(NamedTuple):
    status: int
    body: Any
    """Of JSON what it says, else the text."""
    headers: CIMultiDictProxy[str]

    @property
    def problem(self) -> str:
        """The end of a problem's type; fails where the answer is no problem, or a different one in status and body."""
        assert self.headers["Content-Type"].split(";")[0] == "application/problem+json"
        assert self.body["status"] == self.status
        assert self.body["title"]
        assert self.body["detail"]
        return str(self.body["type"]).removeprefix("urn:bridge:problem:")

    @property
    def places(self) -> list[str]:
        """Where the errors of a problem are."""
        return [error["where"] for error in self.body["errors"]]


@dataclass
class ApiClient:
    """Asks the API. Each call may choose the token by its name; empty: none."""

    port: int
    session: aiohttp.ClientSession
    store: Store
    access: Access
    metrics: Metrics
    clock: Clock
    freshness: Freshness
    app: web.Application

    @property
    def feed(self) -> Feed:
        return self.app[FEED]

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    async def get(self, path: str, *, token: str = ALL, **query: Any) -> Answer:
        return await self.ask("GET", path, token=token, query=query)

    async def post(
        self, path: str, document: Any, *, token: str = ALL, headers: dict[str, str] | None = None
    ) -> Answer:
        return await self.ask("POST", path, token=token, body=orjson.dumps(document), headers=headers)

    async def put(self, path: str, document: Any, *, token: str = ALL) -> Answer:
        return await self.ask("PUT", path, token=token, body=orjson.dumps(document))

    async def delete(self, path: str, *, token: str = ALL, **query: Any) -> Answer:
        return await self.ask("DELETE", path, token=token, query=query)

    async def ask(
        self,
        method: str,
        path: str,
        *,
        token: str = ALL,
        query: dict[str, Any] | None = None,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """The path is sent as it is: percent-encode what is in it."""
        url = URL(self.url(path), encoded=True)
        if query:
            url = url.update_query({name: str(value) for name, value in query.items()})
        sent = {"Authorization": f"Bearer {token_of(token)}"} if token else {}
        if body is not None:
            sent["Content-Type"] = "application/json"
        async with self.session.request(
            method, url, data=body, headers=sent | (headers or {}), allow_redirects=False
        ) as answer:
            text = await answer.read()
            is_json = "json" in answer.content_type and "ndjson" not in answer.content_type
            return Answer(answer.status, orjson.loads(text) if is_json else text.decode(), answer.headers)


@asynccontextmanager
async def serving(database_url: str, *, privacy_key: str = "", **settings: Any) -> AsyncIterator[ApiClient]:
    """The API over the list in this database, at the time `NOW`, until the context ends."""
    keys = keys_of(Suppression(privacy_keys=(SecretStr(privacy_key),) if privacy_key else ()))
    clock, section = Clock(NOW), Api(port=0, **settings)
    access, metrics, freshness = Access(TOKENS, rate=section.rate), Metrics(), Freshness()
    async with Store.open(database_url, clock=clock, keys=keys) as store:
        parts = Parts(section, OpenList(store), freshness, access, metrics, contract_files(Names()))
        app = application(parts)
        async with (
            server.serve(section, app) as port,
            aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session,
        ):
            yield ApiClient(port, session, store, access, metrics, clock, freshness, app)
