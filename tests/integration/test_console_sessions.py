"""Who may see the console: sign-in with a token, the session, and what protects it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from bridge.settings.api_section import CHECK, READ
from tests.support.console import (
    READER,
    TOKENS,
    WRITER,
    console_client,
    serving_console,
    settings_without_rabbitmq,
    token_of,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.console import ConsoleClient

pytestmark = pytest.mark.quick

COOKIE = "bridge_console"
KEY = "a-key-of-sessions-that-two-processes-share"


@pytest.fixture
async def console(tmp_path: Path) -> AsyncIterator[ConsoleClient]:
    async with serving_console(settings_without_rabbitmq(tmp_path)) as client:
        yield client


def cookie_of(console: ConsoleClient) -> str:
    return next(one.value for one in console.session.cookie_jar if one.key == COOKIE)


async def test_whoever_signs_in_sees_the_pages(console: ConsoleClient) -> None:
    """Without a session each page leads to sign-in and back; the cookie is for the console only, and no script reads it."""
    asked = await console.get("/list", reason="complaint")
    assert (asked.status, asked.location) == (303, "/console/sign-in?next=/list?reason%3Dcomplaint")
    signed = await console.post("/sign-in", token=token_of(READER), next="/list?reason=complaint")
    assert (signed.status, signed.location) == (303, "/console/list?reason=complaint")
    attributes = {part.strip() for part in signed.headers["Set-Cookie"].split(";")[1:]}
    assert attributes >= {"HttpOnly", "SameSite=Strict", "Path=/console"}
    assert "Secure" not in attributes
    page = await console.get("/list")
    assert page.status == 200
    assert "reader" in page.text
    assert "script-src 'self'" in page.headers["Content-Security-Policy"]
    assert "unsafe" not in page.headers["Content-Security-Policy"]
    assert page.headers["Cache-Control"] == "no-store"
    assert (await console.get("/sign-in")).location == "/console/"
    assert (await console.get("/signed-in")).text == "yes"


async def test_behind_a_proxy_with_tls_the_cookie_is_for_tls_only(console: ConsoleClient) -> None:
    """As the proxy says."""
    signed = await console.post("/sign-in", {"X-Forwarded-Proto": "https"}, token=token_of(READER), next="/")
    assert "Secure" in signed.headers["Set-Cookie"]


@pytest.mark.parametrize(
    "address",
    [
        "https://evil.example/",
        "//evil.example/",
        "/\\evil.example",
        "/console//evil.example",
        "javascript:alert(1)",
        "/\r\nSet-Cookie: a=b",
        "/sign-out",
        "x",
        "http://[",
    ],
)
async def test_sign_in_leads_nowhere_else(console: ConsoleClient, address: str) -> None:
    """Whatever a link says: to a page of the console, by a header of one line."""
    signed = await console.post("/sign-in", token=token_of(READER), next=address)
    assert signed.status == 303
    assert signed.location.startswith("/console/")
    assert "//" not in signed.location
    assert "sign-" not in signed.location
    assert len(signed.headers.getall("Set-Cookie")) == 1


async def test_a_wrong_token_signs_nobody_in(console: ConsoleClient) -> None:
    """The page says so, and gives no session; after some more wrong ones even a right one has to wait."""
    for wrong in ("not-one-of-the-tokens", "", "\N{SNOWMAN}" * 20, f"{READER}:read:{token_of(READER)}"):
        refused = await console.post("/sign-in", token=wrong, next="/")
        assert refused.status == 401
        assert "not valid" in refused.text
        assert "Set-Cookie" not in refused.headers
    while (refused := await console.post("/sign-in", token="wrong", next="/")).status == 401:
        pass
    assert refused.status == 429
    assert (await console.post("/sign-in", token=token_of(READER), next="/")).status == 429


async def test_a_token_without_the_scope_read_gets_no_session(tmp_path: Path) -> None:
    """There would be nothing to see."""
    tokens = {"api": {"tokens": [f"mailer:{CHECK}:{token_of('mailer')}"]}}
    async with serving_console(settings_without_rabbitmq(tmp_path, **tokens)) as console:
        refused = await console.post("/sign-in", token=token_of("mailer"), next="/")
        assert (refused.status, "Set-Cookie" in refused.headers) == (403, False)
        assert "“read”" in refused.text


async def test_a_session_ends_with_sign_out_also_where_its_cookie_was_copied(console: ConsoleClient) -> None:
    """And with nothing else of that person: another session goes on."""
    await console.sign_in()
    async with console_client(console.base) as thief, console_client(console.base) as other:
        await other.sign_in()
        thief.session.cookie_jar.update_cookies({COOKIE: cookie_of(console)})
        assert (await thief.get("/")).status == 200
        gone = await console.post("/sign-out")
        assert gone.location == "/console/sign-in"
        assert (await console.get("/")).status == 303
        assert (await thief.get("/")).status == 303
        assert (await other.get("/")).status == 200


async def test_a_session_ends_when_its_token_is_taken_away(tmp_path: Path) -> None:
    """Another process that has the same key takes the cookie, unless the token is not one of its own."""
    key = {"console": {"session_key": KEY}}
    async with serving_console(settings_without_rabbitmq(tmp_path, **key)) as console:
        await console.sign_in(READER)
        cookie = cookie_of(console)
    renamed = [f"{READER}2:{READ}:{token_of(READER)}", *TOKENS[1:]]
    for tokens, seen in ((TOKENS, "reader"), (renamed, "reader2"), (TOKENS[1:], None)):
        changes: dict[str, dict[str, Any]] = key | {"api": {"tokens": tokens}}
        async with serving_console(settings_without_rabbitmq(tmp_path, **changes)) as again:
            again.session.cookie_jar.update_cookies({COOKIE: cookie})
            page = await again.get("/")
            assert page.status == (303 if seen is None else 200)
            assert seen is None or f">{seen} " in page.text


async def test_sessions_end_with_the_process_that_has_made_its_own_key(tmp_path: Path) -> None:
    """Nobody can have made a cookie for it before."""
    async with serving_console(settings_without_rabbitmq(tmp_path)) as console:
        await console.sign_in()
        cookie = cookie_of(console)
    async with serving_console(settings_without_rabbitmq(tmp_path)) as again:
        again.session.cookie_jar.update_cookies({COOKIE: cookie})
        assert (await again.get("/")).status == 303


async def test_an_old_cookie_and_a_changed_one_are_none(tmp_path: Path) -> None:
    """A changed letter, a cookie of another kind, and one that is older than a session lasts."""
    changes: dict[str, dict[str, Any]] = {"console": {"session_hours": 1 / 3600}}
    async with serving_console(settings_without_rabbitmq(tmp_path)) as console:
        await console.sign_in()
        good = cookie_of(console)
        # From the right: what itsdangerous has compressed, because it became shorter, begins with a dot of its own.
        content, moment, signature = good.rsplit(".", maxsplit=2)
        changed = ("B" if signature[0] == "A" else "A") + signature[1:]
        async with console_client(console.base) as other:
            for bad in (
                f"{content}.{moment}.{changed}",
                f"{content}x.{moment}.{signature}",
                content,
                "",
                "...",
            ):
                assert (await other.get("/", {"Cookie": f"{COOKIE}={bad}"})).status == 303, bad
            assert (await other.get("/", {"Cookie": f"{COOKIE}={good}"})).status == 200
    async with serving_console(settings_without_rabbitmq(tmp_path, **changes)) as brief:
        signed = await brief.post("/sign-in", token=token_of(READER), next="/")
        assert "Max-Age=1;" in signed.headers["Set-Cookie"]
        value = signed.headers["Set-Cookie"].partition("=")[2].partition(";")[0]
        async with console_client(brief.base) as other:  # which keeps it for longer than it was told to
            while (await other.get("/", {"Cookie": f"{COOKIE}={value}"})).status == 200:
                pass


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://["},
        {"Origin": "http://127.0.0.1.evil.example"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example", "HX-Request": "true"},
    ],
)
async def test_a_form_of_another_site_changes_nothing(
    console: ConsoleClient, headers: dict[str, str]
) -> None:
    """Not even with the right token in it, and not a sign-in either."""
    await console.sign_in(WRITER)
    refused = await console.post("/sign-out", headers)
    assert refused.status == 403
    assert "another site" in refused.text
    assert (await console.get("/")).status == 200
    assert (await console.post("/sign-in", headers, token=token_of(READER), next="/")).status == 403


async def test_a_form_without_its_token_changes_nothing(console: ConsoleClient) -> None:
    """Missing, wrong, or of another session; in the field or in the header. Our own pages are let in."""
    await console.sign_in(WRITER)
    async with console_client(console.base) as other:
        await other.sign_in(WRITER)
        for csrf in ("", "0" * 64, other.csrf, "\N{SNOWMAN}"):
            assert (await console.post("/sign-out", csrf=csrf)).status == 403
        assert (await console.post("/sign-out", {"X-CSRF-Token": other.csrf})).status == 403
    own = {"Origin": console.base.removesuffix("/console"), "X-CSRF-Token": console.csrf}
    assert (await console.post("/sign-out", own, csrf="")).status == 303


async def test_what_is_no_form_and_what_does_not_come_is_said(tmp_path: Path) -> None:
    """Neither is an unforeseen failure, and nobody waits for who sends slowly; also before sign-in."""
    changes: dict[str, dict[str, Any]] = {"api": {"body_timeout": 0.2}}
    async with serving_console(settings_without_rabbitmq(tmp_path, **changes)) as console:
        for signed in (False, True):
            if signed:
                await console.sign_in(WRITER)
            path = console.base + ("/sign-out" if signed else "/sign-in")
            for kind, body in (
                ("multipart/form-data; boundary=x", b"--x\r\nno head of a part"),
                ("multipart/form-data", b""),
                ("application/x-www-form-urlencoded; charset=nobody-knows", b"token=a"),
            ):
                headers = {"Content-Type": kind, "X-CSRF-Token": console.csrf}
                async with console.session.post(path, data=body, headers=headers) as answer:
                    assert (answer.status, "no form of a browser" in await answer.text()) == (400, True), kind
            headers = {"Content-Type": _FORM, "Content-Length": "100"}
            async with console.session.post(path, data=_endless(), headers=headers) as answer:
                assert answer.status == 408


_FORM = "application/x-www-form-urlencoded"


async def _endless() -> AsyncIterator[bytes]:
    """It begins, and nothing comes behind it."""
    yield b"token="
    await asyncio.Event().wait()


async def test_a_part_of_a_page_leads_the_whole_page_to_sign_in(console: ConsoleClient) -> None:
    """As htmx asks for one, after the session has ended; and a stream just ends."""
    headers = {"HX-Request": "true", "HX-Current-URL": f"{console.base}/list?reason=manual"}
    odd = await console.get("/dependencies", headers | {"HX-Current-URL": "http://["})
    assert odd.headers["HX-Redirect"] == "/console/sign-in?next=/"
    asked = await console.get("/dependencies", headers)
    assert (asked.status, asked.headers["HX-Redirect"]) == (
        401,
        "/console/sign-in?next=/list?reason%3Dmanual",
    )
    assert (await console.get("/events", {"Accept": "text/event-stream"})).status == 401


async def test_who_has_not_signed_in_sends_little(console: ConsoleClient) -> None:
    """A large form, or one that does not say how large it is, is not even read."""

    async def endless() -> AsyncIterator[bytes]:
        yield b"token="

    for body in (b"token=" + b"x" * 70_000, endless()):
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        async with console.session.post(f"{console.base}/sign-in", data=body, headers=headers) as answer:
            assert answer.status == 413


async def test_what_is_not_there_is_said_on_a_page(console: ConsoleClient) -> None:
    """Not in JSON, as the API around it says it; and only to whoever has signed in."""
    assert (await console.get("/no-such-page")).status == 303
    await console.sign_in(READER)
    page = await console.get("/no-such-page")
    assert (page.status, page.headers["Content-Type"]) == (404, "text/html; charset=utf-8")
    assert "no page /console/no-such-page" in page.text
    part = await console.fragment("/no-such-page")
    assert (part.status, "<html" in part.text) == (404, False)
    assert (await console.post("/list")).status == 405
    async with console.session.get(console.base, allow_redirects=False) as answer:
        assert (answer.status, answer.headers["Location"]) == (302, "/console/")
    async with console.session.get(console.base.removesuffix("/console"), allow_redirects=False) as answer:
        assert (answer.status, answer.headers["Location"]) == (302, "/console/")


async def test_the_console_can_be_turned_off(tmp_path: Path) -> None:
    """Then the API has no such paths."""
    off: dict[str, dict[str, Any]] = {"console": {"enabled": False}}
    async with serving_console(settings_without_rabbitmq(tmp_path, **off)) as console:
        assert (await console.get("/")).status == 404
        assert (await console.get("/sign-in")).status == 404
