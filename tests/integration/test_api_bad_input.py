"""What does not fit is answered with a 4xx problem that says what and where; and the API goes on."""

from __future__ import annotations

import asyncio
import gzip
import io
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.support.api_client import CHECK_HEADERS, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.api_client import ApiClient

CHECKS: Final = "/v1/suppressions/check"

DOCUMENTS: Final[list[tuple[str, Any, list[str]]]] = [
    (CHECKS, {}, ["addresses"]),
    (CHECKS, {"addresses": []}, ["addresses"]),
    (CHECKS, {"addresses": "jane@example.org"}, ["addresses"]),
    (CHECKS, {"addresses": None}, ["addresses"]),
    (
        CHECKS,
        {"addresses": ["a@b.example", 5, None, ["c@d.example"]]},
        [f"addresses[{at}]" for at in (1, 2, 3)],
    ),
    (CHECKS, {"addresses": ["a@b.example"], "adresses": []}, ["adresses"]),
    (CHECKS, [], ["body"]),
    (CHECKS, "jane@example.org", ["body"]),
    (CHECKS + "?addresses=a", {"addresses": ["a@b.example"]}, ["query.addresses"]),
]
"""Path, body, and the places of what is wrong in it."""
LIST: Final = "/v1/suppressions"
QUERIES: Final = (
    *(
        (f"{LIST}?cursor={cursor}", "query.cursor")
        for cursor in ("", "x", "bm8", "W10", "WzEsMl0", "WyJhIl0", "%00", "%FF")
    ),
    (f"{LIST}?cursor=WyJhXHUwMDAwIiwiYiJd", "query.cursor"),
    ("/v1/allow?cursor=WyJhIiwiYiJd", "query.cursor"),
    (f"{LIST}?reason=because", "query.reason"),
    (f"{LIST}?raeson=manual", "query.raeson"),
    (f"{LIST}?limit=1&limit=2", "query.limit"),
    (f"{LIST}?limit=0", "query.limit"),
    (f"{LIST}?limit=1001", "query.limit"),
    (f"{LIST}?limit=%D9%A3", "query.limit"),
    (f"{LIST}?text=%00", "query.text"),
    (f"{LIST}?domain=a%20b", "query.domain"),
    (f"{LIST}?changed_since=2026-02-30T00:00:00Z", "query.changed_since"),
    (f"{LIST}?changed_since=2026-02-03", "query.changed_since"),
    (f"{LIST}/export?format=xml", "query.format"),
    (f"{LIST}/a@b.example/history?at=now", "query.at"),
    (f"{LIST}/a@b.example%0D%0ABcc:c@d.example", "address"),
    (f"{LIST}/{'a' * 310}@example.org", "address"),
    (f"{LIST}/%00@b.example", "address"),
    ("/v1/allow/a%0D%0Ab.example", "pattern"),
)
"""Paths, and the place of what is wrong in each."""
NO_JSON: Final = (
    b"",
    b"{",
    b'{"addresses": ["a@b.example"]} x',
    b"\xff\xfe{}",
    b"[" * 100_000,
    b'{"addresses": [NaN]}',
    b'{"addresses": ["\\ud800@b.example"]}',
)


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[ApiClient]:
    async with serving(f"sqlite+aiosqlite:///{tmp_path}/list.sqlite3") as client:
        yield client


async def test_what_does_not_fit_is_named_with_its_place(api: ApiClient) -> None:
    """Wrong types and names."""
    for path, document, places in DOCUMENTS:
        answer = await api.post(path, document)
        assert (answer.status, answer.problem, answer.places) == (422, "invalid-request", places), document


async def test_a_body_that_is_no_json_is_refused(api: ApiClient) -> None:
    """400, with what the parser says of it."""
    for body in NO_JSON:
        answer = await api.ask("POST", CHECKS, body=body)
        assert (answer.status, answer.problem) == (400, "invalid-json"), body


async def test_a_body_of_another_type_is_refused(api: ApiClient) -> None:
    """As a form, which is what curl sends by itself."""
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = await api.ask("POST", CHECKS, body=b"{}", headers=form)
    assert (answer.status, answer.problem) == (415, "unsupported-media-type")


async def test_a_query_that_does_not_fit_is_named_with_its_place(api: ApiClient) -> None:
    """Cursors of others, unknown and repeated parameters, times and numbers that are none, header injection."""
    for path, place in QUERIES:
        answer = await api.get(path)
        assert (answer.status, answer.problem, answer.places) == (422, "invalid-request", [place]), path


async def test_a_compressed_body_is_refused(api: ApiClient) -> None:
    """A few bytes could become gigabytes; so is what only says that it is compressed."""
    for body in (gzip.compress(b'{"addresses": ["a@b.example"]}'), b"{}"):
        answer = await api.ask("POST", CHECKS, body=body, headers={"Content-Encoding": "gzip"})
        assert (answer.status, answer.problem) == (415, "unsupported-media-type")


async def test_a_body_that_breaks_off_is_no_failure(api: ApiClient) -> None:
    """A chunk that is none is answered; a client that leaves in the middle leaves nothing behind; others are served."""
    lines = [
        f"POST {CHECKS} HTTP/1.1",
        "Host: here",
        *(f"{name}: {value}" for name, value in CHECK_HEADERS.items()),
    ]
    head = "\r\n".join([*lines, "Transfer-Encoding: chunked", "", ""]).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    writer.write(head + b"2\r\n{}\r\n")
    await writer.drain()
    writer.write(b"zz\r\n")
    assert b" 400 " in await reader.readline()
    writer.close()
    _, writer = await asyncio.open_connection("127.0.0.1", api.port)
    writer.write(head + b"2\r\n{}\r\n")
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    assert (await api.post(CHECKS, {"addresses": ["a@b.example"]})).status == 200
    assert 'status="500"' not in api.metrics.exposition().decode()


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_of_twenty_megabytes_is_refused(api: ApiClient, *, chunked: bool) -> None:
    """Whether its length is announced or not; and the next request is answered."""

    async def parts() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield bytes(1024**2)

    body = parts() if chunked else io.BytesIO(bytes(20 * 1024**2))
    async with api.session.post(api.url(CHECKS), data=body, headers=CHECK_HEADERS) as answer:
        assert answer.status == 413
        assert (await answer.json(content_type=None))["type"] == "urn:bridge:problem:body-too-large"
    assert (await api.post(CHECKS, {"addresses": ["a@b.example"]})).status == 200


async def test_a_body_that_does_not_come_is_given_up(tmp_path: Path) -> None:
    """The client is told, and others are answered meanwhile."""
    async with serving(f"sqlite+aiosqlite:///{tmp_path}/list.sqlite3", body_timeout=0.05) as api:

        async def never() -> AsyncIterator[bytes]:
            while True:
                yield b" "
                assert (await api.get("/v1/suppressions/jane@example.org")).status == 200

        async with api.session.post(api.url(CHECKS), data=never(), headers=CHECK_HEADERS) as answer:
            assert answer.status == 408
            assert (await answer.json(content_type=None))["type"] == "urn:bridge:problem:body-too-slow"
