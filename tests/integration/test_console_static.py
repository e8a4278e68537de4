"""The console's style and scripts: where they come from, and how little of them crosses the network."""

from __future__ import annotations

import gzip
import re
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import pytest_asyncio

from tests.support.console import console_client, serving_console, settings_without_rabbitmq
from tests.support.vendored import FILES, FOLDER, different

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.console import ConsoleClient

pytestmark = pytest.mark.quick

in_module = pytest.mark.asyncio(loop_scope="module")

_ASSET = re.compile(r'(?:src|href)="(/console/static/[^"]+)"')


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    async with serving_console(settings_without_rabbitmq(tmp_path_factory.mktemp("console"))) as client:
        yield client.base


@pytest_asyncio.fixture(loop_scope="module")
async def console(served: str) -> AsyncIterator[ConsoleClient]:
    """A browser of this test's own."""
    async with console_client(served) as client:
        yield client


def test_copies_are_what_the_packages_have(npm_packages: Path) -> None:
    """Each with the licence of its package; `make assets` makes them so."""
    assert different(npm_packages) == []
    assert {path.name for path in FOLDER.iterdir()} == set(FILES)


@in_module
async def test_files_are_compressed_and_kept_for_good(console: ConsoleClient) -> None:
    """The path changes with the content, so a browser asks once; whoever wants it plain gets it plain."""
    paths = _ASSET.findall((await console.get("/sign-in")).text)
    assert len(paths) >= 4
    for path in paths:
        status, headers, packed = await _raw(console, path, "gzip, br")
        assert status == 200
        assert headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert headers["Content-Encoding"] == "gzip"
        assert headers["Vary"] == "Accept-Encoding"
        assert headers["X-Content-Type-Options"] == "nosniff"
        _, headers, plain = await _raw(console, path, "identity")
        assert "Content-Encoding" not in headers
        assert gzip.decompress(packed) == plain


@in_module
async def test_a_file_of_another_version_is_not_served_under_its_name(console: ConsoleClient) -> None:
    """Else a browser would keep the wrong one for a year."""
    [path, *_] = _ASSET.findall((await console.get("/sign-in")).text)
    for wrong in (
        re.sub(r"/static/[^/]+/", "/static/000000000000/", path),
        f"{path}.map",
        "/console/static/x/../base.html",
    ):
        status, headers, _ = await _raw(console, wrong, "gzip")
        assert status in {303, 404}
        assert "immutable" not in headers.get("Cache-Control", "")


async def _raw(console: ConsoleClient, path: str, encoding: str) -> tuple[int, Any, bytes]:
    async with (
        aiohttp.ClientSession(auto_decompress=False) as session,
        session.get(
            console.base.removesuffix("/console") + path,
            headers={"Accept-Encoding": encoding},
            allow_redirects=False,
        ) as answer,
    ):
        return answer.status, answer.headers, await answer.read()
