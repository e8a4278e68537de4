"""The console's page of the list, as HTML: on SQLite and on PostgreSQL."""

from __future__ import annotations

import html
import re
import time
from typing import TYPE_CHECKING

import pytest

from bridge.console import list_page
from bridge.suppression import browsing
from bridge.suppression.additions import Addition
from bridge.suppression.policy import Reason
from bridge.suppression.store import Store
from tests.support.console import READER, serving_console, settings_of_list

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.console import ConsoleClient, Page

ENTRIES = 12


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    """The same list, seen from outside of the role: p00 to p11, each third one a complaint."""
    async with Store.open(database_url) as opened:
        await opened.add_many(
            [
                Addition(
                    f"p{number:02}@{'example.org' if number % 2 else 'other.example'}",
                    Reason.MANUAL if number % 3 else Reason.COMPLAINT,
                )
                for number in range(ENTRIES)
            ],
            actor="x",
        )
        yield opened


@pytest.fixture
async def console(database_url: str, store: Store) -> AsyncIterator[ConsoleClient]:
    assert await store.count() == ENTRIES
    async with serving_console(settings_of_list(database_url)) as client:
        await client.sign_in(READER)
        yield client


def shown(page: Page) -> list[str]:
    """The names of the addresses in the table."""
    assert page.status == 200, page.text
    return re.findall(r'href="/console/address/(p[0-9]+)@', page.text)


def link(page: Page, pattern: str) -> str:
    """The one path, below /console, that fits."""
    (found,) = re.findall(rf'"/console({pattern})"', page.text)
    return html.unescape(found)


async def test_the_list_comes_in_pages(console: ConsoleClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the first page to the last, each entry once; the last one leads nowhere but back."""
    monkeypatch.setattr(list_page, "_ROWS", 5)
    found, path = [], "/list"
    for _ in range(2):
        page = await console.get(path)
        found += shown(page)
        path = link(page, r"/list\?[^\"]*cursor=[^\"]*")
    last = await console.get(path)
    assert found + shown(last) == [f"p{number:02}" for number in range(ENTRIES)]
    assert "Next page" not in last.text
    assert "To the first page" in last.text


async def test_filters_narrow_the_list(console: ConsoleClient) -> None:
    """By each field, and by several; what was asked for stays in the form, and in the links of the export."""
    assert shown(await console.get("/list", reason="complaint")) == ["p00", "p03", "p06", "p09"]
    assert shown(await console.get("/list", domain="@Example.org", text="P1")) == ["p11"]
    assert len(shown(await console.get("/list", changed_since="2020-01-01"))) == ENTRIES
    assert shown(await console.get("/list", expiring_before="2099-01-01", reason="")) == []
    page = await console.get("/list", reason="complaint", text="p0")
    assert '<option value="complaint" selected>' in page.text
    assert link(page, '/list/export[^"]*csv[^"]*') == "/list/export?format=csv&reason=complaint&text=p0"
    nothing = await console.get("/list", text='"><script>')
    assert "No entry fits the filters." in nothing.text
    assert 'value="&#34;&gt;&lt;script&gt;"' in nothing.text


async def test_a_filter_that_means_nothing_is_said_beside_its_field(console: ConsoleClient) -> None:
    """And nothing is shown, counted or exported for it."""
    for field, value, said in (
        ("reason", "bored", "must be one of"),
        ("domain", "a b", "not a domain"),
        ("changed_since", "2026-02-31", "must be a day"),
        ("changed_since", "soon", "must be a day"),
        ("expiring_before", "0000-00-00", "must be a day"),
        ("text", "\x00", "cannot be stored"),
        ("text", "x" * 321, "at most 320"),
    ):
        page = await console.get("/list", **{field: value})
        assert page.status == 422, field
        assert said in page.text
        assert f'aria-describedby="{field}-problem"' in page.text
        assert "<table" not in page.text
        for path in ("/list/rows", "/list/export", "/list/count"):
            assert (await console.fragment(path, **{field: value})).status == 422


async def test_a_page_goes_on_by_itself_where_little_fits(
    console: ConsoleClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each step looks at some entries only: the page is there at once, and the rest of it is added."""
    monkeypatch.setattr(list_page, "_ROWS", 3)
    monkeypatch.setattr(browsing, "STEP", 4)
    monkeypatch.setattr(list_page, "_PAGE_SECONDS", 0.0)
    monkeypatch.setattr(list_page, "_FURTHER_SECONDS", 0.0)
    page = await console.get("/list", reason="complaint")
    assert shown(page) == ["p00", "p03"]
    assert "Looked through the list up to p04@other.example" in page.text
    more = await console.fragment(link(page, '/list/rows[^"]*'))
    assert "<html" not in more.text
    assert shown(more) == ["p06"]
    further = await console.get(link(more, '/list\\?[^"]*'))
    assert shown(further) == ["p09"]
    assert "shown=1" in further.text
    assert "Looked" not in (await console.fragment(link(further, '/list/rows[^"]*'))).text


async def test_how_many_there_are_is_counted_after_the_page(
    console: ConsoleClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All, those that fit, or those that could be counted in time."""
    page = await console.get("/list", text="p0")
    assert "10 entries fit." in (await console.fragment(link(page, '/list/count[^"]*'))).text
    assert "12 entries on the list." in (await console.fragment("/list/count")).text
    monkeypatch.setattr(browsing, "STEP", 4)
    monkeypatch.setattr(list_page, "_COUNT_SECONDS", 0.0)
    assert "More than 5 entries fit (counting" in (await console.fragment("/list/count", text="p")).text


async def test_what_counts_now_is_told_apart(console: ConsoleClient, store: Store) -> None:
    """An entry that has ended, or over which the allow-list wins, suppresses nobody."""
    await store.add("p00@other.example", actor="x", note="", expires_at=int(time.time()) - 5)
    await store.add("p01@example.org", reason=Reason.HARD_BOUNCE, actor="x", note="")
    await store.allow_list.put("@example.org", actor="x", note="")
    assert "has ended" in (await console.get("/list", text="p00", reason="manual")).text
    assert "allowed by example.org" in (await console.get("/list", text="p01", reason="hard_bounce")).text
    assert "suppresses" in (await console.get("/list", text="p01", reason="manual")).text


async def test_what_is_filtered_is_exported(console: ConsoleClient) -> None:
    """As the API exports it."""
    csv = await console.get("/list/export", format="csv", domain="example.org", reason="complaint")
    assert csv.headers["Content-Disposition"] == 'attachment; filename="suppressions.csv"'
    assert [line.split(",")[:2] for line in csv.text.splitlines()[1:]] == [
        ["p03@example.org", "complaint"],
        ["p09@example.org", "complaint"],
    ]
    lines = await console.get("/list/export", format="ndjson")
    assert len(lines.text.splitlines()) == ENTRIES


async def test_a_place_that_the_list_has_not_given_is_refused(console: ConsoleClient) -> None:
    """With a page that says what to do."""
    for cursor in ("x", "WzEsMiwzXQ", "WyJhIiwiYiIsImMiXQ", "WyItLTUiLCJhIiwiYiJd"):
        page = await console.get("/list", cursor=cursor)
        assert page.status == 422
        assert "This is no place in the list. Begin at its first page." in page.text


async def test_a_list_of_nobody_says_what_would_be_here(database_url: str) -> None:
    """An empty page is no riddle."""
    async with serving_console(settings_of_list(database_url)) as console:
        await console.sign_in(READER)
        assert "Nobody is on the list." in (await console.get("/list")).text


async def test_the_allow_list_has_a_page(
    console: ConsoleClient, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each rule with who made it and why, and the way to whom it is about."""
    assert "Nobody is allowed" in (await console.get("/list/allowed")).text
    await store.allow_list.put("a/b@example.org", actor="ann", note="<b>")
    await store.allow_list.put("@example.org", actor="bob", note="a partner")
    await store.allow_list.put("z@example.org", actor="ann", note="")
    monkeypatch.setattr(list_page, "_ROWS", 2)
    page = await console.get("/list/allowed")
    assert "3 rules" in page.text
    assert "&lt;b&gt;" in page.text
    assert link(page, '/address/a[^"]*') == "/address/a%2Fb@example.org"
    assert link(page, '/address\\?q=[^"]*') == "/address?q=@example.org"
    assert "z@example.org" in (await console.get(link(page, '/list/allowed[^"]*'))).text
