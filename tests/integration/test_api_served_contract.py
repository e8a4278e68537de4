"""`/contract`: what consumers of RabbitMQ can rely on, as files and as a page, from the API and for everybody."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, get_args

import orjson
import pytest

from bridge import events
from bridge.broker.topology import Names
from bridge.contract.files import contract_files
from bridge.suppression.change import Action
from tests.support.api_client import serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.api_client import ApiClient

pytestmark = pytest.mark.quick

FILES = contract_files(Names())
DOCUMENT: dict[str, Any] = orjson.loads(FILES["asyncapi.json"])


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[ApiClient]:
    async with serving(f"sqlite+aiosqlite:///{tmp_path}/list.sqlite3") as client:
        yield client


async def test_every_file_is_served_without_a_token(api: ApiClient) -> None:
    """Byte for byte as they are exported."""
    for path, content in FILES.items():
        answer = await api.get(f"/contract/{path}", token="")
        assert (answer.status, answer.body) == (200, orjson.loads(content)), path
        assert answer.headers["Content-Type"].startswith("application/json")
        assert int(answer.headers["Content-Length"]) == len(content)


@pytest.mark.parametrize("path", ["schemas/none.json", "..%2f..%2fetc%2fpasswd", "schemas", "asyncapi.json/"])
async def test_what_is_no_file_is_not_found(api: ApiClient, path: str) -> None:
    """Nothing is read from a disk."""
    answer = await api.get(f"/contract/{path}", token="")
    assert answer.status == 404
    assert answer.body["detail"].startswith("there is no such file")


@pytest.fixture
async def page(api: ApiClient) -> str:
    answer = await api.get("/contract", token="")
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'sha256-")
    return str(answer.body)


async def test_the_page_loads_nothing_from_anywhere_and_runs_nothing(page: str) -> None:
    """Its links lead to places that are on it, and to files that are served."""
    assert "<script" not in page
    assert not re.findall(r'\bsrc="', page)
    links = re.findall(r'href="([^"]+)"', page)
    assert len(links) > 100
    for link in links:
        if link.startswith("#"):
            assert page.count(f'id="{link[1:]}"') == 1, link
        else:
            assert link.removeprefix("/contract/") in FILES, link


async def test_the_page_shows_every_message_with_its_example(page: str) -> None:
    """Names, routing keys, properties and headers; and how `complined` is to be read."""
    for name, message in DOCUMENT["components"]["messages"].items():
        assert f'<h3 id="{name}">' in page
        for example in message.get("examples", ()):
            assert f"/contract/examples/{example['name']}.json" in page
    for name in (*events.KNOWN_NAMES, *get_args(Action), "complined", "malformed", "email.sent"):
        assert f"<code>{name}</code>" in page
    for schema in DOCUMENT["components"]["schemas"].values():
        for field in schema.get("properties", {}):
            assert field == "headers" or f"{field}</code>" in page, field
    assert "<code>complined</code> and <code>complained</code> are one event" in page
    assert "&quot;cloudEvents:subject&quot;: &quot;jane@example.org&quot;" in page


async def test_the_page_can_be_read_with_a_keyboard_and_on_a_telephone(page: str) -> None:
    """What scrolls can be focused, what opens is a native element, and the width is the screen's."""
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in page
    assert page.count("<pre") == page.count('<pre tabindex="0">') == page.count("<details><summary>")
    assert "@media (max-width: 40rem)" in page
    assert ":focus-visible" in page
    assert '<html lang="en">' in page
    assert '<nav aria-label="Contents">' in page
