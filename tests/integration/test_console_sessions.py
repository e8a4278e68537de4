"""Who may see the console: sign-in with a token, the session, and what protects it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from bridge.settings.loading import load_settings
from tests.support.console import READER, TOKENS, serving_console, token_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.console import ConsoleClient

pytestmark = pytest.mark.quick


@pytest.fixture
def overrides(tmp_path: Path) -> dict[str, dict[str, Any]]:
    """Nobody is where RabbitMQ should be: no session needs it."""
    return {
        "api": {"port": 0, "tokens": TOKENS},
        "rabbitmq": {"urls": ["amqp://nobody:nothing@127.0.0.1:9/"]},
        "suppression": {"database_url": f"sqlite+aiosqlite:///{tmp_path}/list.sqlite3"},
        "health": {"port": 0},
    }


@pytest.fixture
async def console(overrides: dict[str, dict[str, Any]]) -> AsyncIterator[ConsoleClient]:
    async with serving_console(load_settings(overrides=overrides)) as client:
        yield client


async def test_whoever_signs_in_sees_the_pages(console: ConsoleClient) -> None:
    """Without a session each page leads to sign-in and back; the cookie is for the console only, and no script reads it."""
    asked = await console.get("/list", reason="complaint")
    assert (asked.status, asked.location) == (303, "/console/sign-in?next=/list?reason%3Dcomplaint")
    signed = await console.post("/sign-in", token=token_of(READER), next="/list?reason=complaint")
    assert (signed.status, signed.location) == (303, "/console/list?reason=complaint")
    attributes = {part.strip() for part in signed.headers["Set-Cookie"].split(";")[1:]}
    assert attributes >= {"HttpOnly", "SameSite=Strict", "Path=/console"}
    page = await console.get("/list")
    assert page.status == 200
    assert "reader" in page.text
    assert "script-src 'self'" in page.headers["Content-Security-Policy"]
    assert "unsafe" not in page.headers["Content-Security-Policy"]


async def test_a_wrong_token_signs_nobody_in(console: ConsoleClient) -> None:
    """The page says so, and gives no session; after some more wrong ones even a right one has to wait."""
    refused = await console.post("/sign-in", token="not-one-of-the-tokens", next="/")
    assert refused.status == 401
    assert "not valid" in refused.text
    assert "Set-Cookie" not in refused.headers
    while (refused := await console.post("/sign-in", token="wrong", next="/")).status == 401:
        pass
    assert refused.status == 429
    assert (await console.post("/sign-in", token=token_of(READER), next="/")).status == 429
