"""The console's page of one address, and its search, as HTML: on SQLite and on PostgreSQL."""

from __future__ import annotations

import html
import re
import time
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from bridge.suppression.address_keys import keys_of
from bridge.suppression.policy import Reason
from bridge.suppression.store import Store
from bridge.suppression.suppressing_events import SuppressingEvent
from tests.support.console import OVERRIDER, READER, WRITER, console_client, serving_console, settings_of_list

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bridge.settings.sections import Settings
    from tests.support.console import ConsoleClient, Page

PRIVACY_KEY = "k1:" + "5" * 64
AT = 1_700_000_000
JANE = "/address/jane@example.org"


@pytest.fixture
def settings(database_url: str) -> Settings:
    return settings_of_list(database_url, privacy_keys=[PRIVACY_KEY])


@pytest.fixture
async def store(settings: Settings) -> AsyncIterator[Store]:
    """The same list, seen from outside of the role."""
    url = settings.suppression.database_url.get_secret_value()
    async with Store.open(url, keys=keys_of(settings.suppression)) as opened:
        yield opened


@pytest.fixture
async def console(settings: Settings) -> AsyncIterator[ConsoleClient]:
    async with serving_console(settings) as client:
        await client.sign_in(OVERRIDER)
        yield client


def seen(page: Page) -> str:
    """The text of the page, as one line."""
    text = re.sub(r"<head>.*?</head>|<[^>]*>", " ", page.text, flags=re.DOTALL)
    return " ".join(html.unescape(text).split())


async def complain(
    store: Store, address: str = "jane@example.org", event: bytes = b'{"event":{"a":1}}'
) -> None:
    await store.record(
        [SuppressingEvent(address, Reason.COMPLAINT, f"e-{address}", AT, "123456", event)], actor="worker"
    )


async def test_the_answer_comes_first_with_its_reason(console: ConsoleClient, store: Store) -> None:
    """May we write to it? No, why, since when, which message; and the provider's own event in the history."""
    await complain(store)
    page = await console.get(JANE)
    assert page.status == 200
    text = seen(page)
    assert (
        "May we write to it? No The recipient complained: a message was marked as spam on 14 Nov 2023" in text
    )
    assert "(message 123456)" in text
    assert '{ "event": { "a": 1 } }' in text
    assert "by worker" in text
    assert '/console/archive?message=123456&amp;search=yes"' in page.text
    await complain(store, "bob@example.org", event=b'"' + b"x" * 60_000)
    assert "characters more" in (await console.get("/address/bob@example.org")).text


async def test_what_is_known_of_an_address_that_may_be_written_to(
    console: ConsoleClient, store: Store
) -> None:
    """Never on the list, lifted by somebody, ended by itself, and allowed are different answers."""
    assert "Nothing has put it on the list" in seen(await console.get(JANE))
    await store.add("jane@example.org", actor="cli:ann", note="")
    await store.remove("jane@example.org", reason=None, actor="cli:ann", note="she asked")
    assert "cli:ann has lifted it: “she asked”" in seen(await console.get(JANE))
    await store.add("bob@example.org", actor="x", note="", expires_at=int(time.time()) - 5)
    assert "That has ended." in seen(await console.get("/address/bob@example.org"))
    await complain(store, "kim@example.org")
    await store.allow_list.put(
        "@example.org", actor="ann", note="a partner", over_complaints=True, override=True
    )
    text = seen(await console.get("/address/kim@example.org"))
    assert "Yes The allow-list wins: ann has allowed all of example.org" in text
    assert "Otherwise it would be suppressed: complaint." in text


async def test_addresses_are_found_while_they_are_typed(console: ConsoleClient, store: Store) -> None:
    """By their beginning, with the answer beside each; Enter behind one that is known leads to its page."""
    await complain(store)
    await store.allow_list.put("janet@example.org", actor="x", note="")
    found = await console.fragment("/address/search", q="JAN")
    assert "<html" not in found.text
    assert seen(found) == "jane@example.org no: complaint janet@example.org yes: not on the list now"
    assert "nothing is known of it" in seen(await console.fragment("/address/search", q="bob@example.org"))
    assert "Nothing begins with “x<b>”" in seen(await console.fragment("/address/search", q="x<b>"))
    assert "cannot be stored" in seen(await console.fragment("/address/search", q="\x00"))
    entered = await console.get("/address", q="jane@example.org")
    assert (entered.status, entered.location) == (303, f"/console{JANE}")
    assert (await console.get("/address", q="jan")).status == 200
    wrong = await console.get("/address/jane")
    assert wrong.status == 404
    assert "“jane” is not an e-mail address: it has no @-sign." in seen(wrong)


@pytest.mark.parametrize(
    "address",
    [
        "50%_off+a&b=c@example.org",
        "a/b'c?d#e@example.org",
        '"john doe <x>"@example.org',
        "ünïcode@example.org",
        f"{'x' * 64}@{'y' * 60}.{'z' * 60}.{'w' * 60}.exa",
    ],
)
async def test_odd_addresses_have_pages_and_forms(console: ConsoleClient, store: Store, address: str) -> None:
    """Whatever stands in an address, its page is found from the search, and its forms reach it."""
    await store.add(address, actor="x", note="")
    found = await console.fragment("/address/search", q=address[:3])
    (path,) = re.findall(r'href="/console(/address/[^"]+)"', found.text)
    page = await console.get(html.unescape(path))
    assert page.status == 200
    (form,) = re.findall(r'action="/console([^"]+/lift)"', page.text)
    done = await console.post(html.unescape(form), note="x", reason="manual")
    assert (done.status, done.location) == (303, f"/console{html.unescape(path)}")
    assert await store.entries_of(address) == []


async def test_nothing_of_the_provider_is_markup(console: ConsoleClient, store: Store) -> None:
    """What it sends, and what people write, is text on the page."""
    await complain(store, event=b'{"x":"</pre><script>alert(1)</script>"}')
    other = '"<script>"@example.org'
    await complain(store, other, event=b"<script>no json\xff")
    await store.add("jane@example.org", actor="<script>", note="<script>alert(2)</script>")
    for path in (JANE, f"/address/{quote(other)}"):
        page = await console.get(path)
        assert page.status == 200
        assert re.findall(r"<script(?! defer src=)", page.text) == []
        assert "&lt;script&gt;" in page.text
    assert "<script>" not in (await console.fragment("/address/search", q='"')).text


async def test_lifting(console: ConsoleClient, store: Store) -> None:
    """It is in the log with name and note; a complaint takes the box; what is gone already is said with who has done it."""
    await store.add("jane@example.org", actor="x", note="")
    await complain(store)
    refused = await console.post(f"{JANE}/lift", reason="", note="she asked")
    assert refused.status == 409
    assert "the recipient has complained" in seen(refused)
    assert 'value="she asked"' in refused.text
    done = await console.post(f"{JANE}/lift", reason="", note=" she asked ", override="on")
    assert (done.status, done.location) == (303, f"/console{JANE}")
    page = await console.get(JANE)
    assert "Lifted: complaint, added by a person." in seen(page)
    assert "Lifted: complaint" not in seen(await console.get(JANE))
    (change, _) = await store.inquiries.latest_changes("jane@example.org", limit=2)
    assert (change.action, change.actor, change.note) == ("removed", "console:overrider", "she asked")
    again = await console.post(f"{JANE}/lift", reason="manual", note="me, too")
    assert again.status == 409
    assert "any more: console:overrider has taken it off at" in seen(again)
    never = await console.post("/address/bob@example.org/lift", reason="", note="x")
    assert "It is not on the list. Nothing was changed." in seen(never)


async def test_adding(console: ConsoleClient, store: Store) -> None:
    """For good or until a day has ended; the same form sent twice counts once, with other values it is refused."""
    form = {"reason": "unsubscribe", "note": "by phone", "until": "2099-12-31", "once": "abc"}
    for _ in range(2):
        assert (await console.post(f"{JANE}/add", **form)).status == 303
    (entry,) = await store.entries_of("jane@example.org")
    assert (entry.reason, entry.count, entry.expires_at) == (Reason.UNSUBSCRIBE, 1, 4102444800)
    assert (await console.post(f"{JANE}/add", **form | {"note": "another"})).status == 409
    assert (await console.post(f"{JANE}/add", **form | {"once": "def", "until": ""})).status == 303
    (entry,) = await store.entries_of("jane@example.org")
    assert (entry.count, entry.expires_at) == (2, None)
    for wrong, said in (
        ({"until": "2001-01-01"}, "is over already"),
        ({"until": "soon"}, "must be written as"),
        ({"until": "9999-12-31"}, "must be written as"),
        ({"reason": "bored"}, "no such reason"),
        ({"note": " "}, "write a note"),
        ({"note": "x" * 1001}, "at most 1000"),
        ({"note": "a\x00"}, "cannot be stored"),
    ):
        refused = await console.post(f"{JANE}/add", **form | {"once": "new"} | wrong)
        assert refused.status == 422, wrong
        assert said in seen(refused)
    assert (await store.entries_of("jane@example.org"))[0].count == 2


async def test_allowing_and_taking_it_back(console: ConsoleClient, store: Store) -> None:
    """An address, or all of its domain; a rule that somebody has changed meanwhile stays as it is."""
    await complain(store)
    assert (await console.post(f"{JANE}/allow", scope="address", note="a partner")).status == 303
    assert not (await store.check_many(["jane@example.org"]))[0].allowed
    forced = {"scope": "domain", "note": "a partner", "over_complaints": "on"}
    assert (await console.post(f"{JANE}/disallow", pattern="jane@example.org", note="x")).status == 303
    assert (await console.post(f"{JANE}/allow", **forced)).status == 303
    assert (await store.check_many(["jane@example.org"]))[0].allow_rule == "example.org"
    gone = await console.post(f"{JANE}/disallow", pattern="jane@example.org", note="x")
    assert gone.status == 409
    assert "not there any more" in seen(gone)
    assert (await console.post(f"{JANE}/disallow", pattern="example.org", note="x")).status == 303
    assert await store.allow_list.count() == 0


async def test_erasing(console: ConsoleClient, store: Store) -> None:
    """The address is typed once more; then only its hash is on the page, which is still found by the address."""
    await complain(store)
    refused = await console.post(f"{JANE}/erase", note="she asked", confirm="jane@example.com")
    assert refused.status == 422
    assert "the address in the field is another one" in seen(refused)
    done = await console.post(
        f"{JANE}/erase", note="she asked, jane@example.org", confirm=" JANE@example.org"
    )
    assert done.status == 303
    assert "jane" not in done.location
    page = await console.get(done.location.removeprefix("/console"))
    assert "Erased: 1 entries" in seen(page)
    assert "events that wait in the spool" in seen(page)
    assert "jane" not in page.text
    assert "by console:overrider" in seen(page)
    text = seen(await console.get(JANE))
    assert "The person was erased on" in text
    assert "May we write to it? No The recipient complained" in text


async def test_without_a_privacy_key_nobody_is_erased(database_url: str) -> None:
    """The page says which setting is missing."""
    async with serving_console(settings_of_list(database_url)) as console:
        await console.sign_in(OVERRIDER)
        refused = await console.post(f"{JANE}/erase", note="x", confirm="jane@example.org")
    assert refused.status == 409
    assert "suppression.privacy_keys" in seen(refused)


async def test_forms_are_for_those_who_may(console: ConsoleClient, store: Store) -> None:
    """Who only reads sees no form, and is refused who sends one all the same; erasing and complaints take more."""
    await complain(store)
    async with console_client(console.base) as reader, console_client(console.base) as writer:
        await reader.sign_in(READER)
        await writer.sign_in(WRITER)
        assert (
            re.findall(r'<form[^>]*method="post"[^>]*action="/console/address', (await reader.get(JANE)).text)
            == []
        )
        for action in ("lift", "add", "allow", "disallow", "erase"):
            refused = await reader.post(f"{JANE}/{action}", note="x", confirm="jane@example.org")
            assert refused.status == 403
            assert "scopes read" in seen(refused)
        page = await writer.get(JANE)
        assert "/erase" not in page.text
        assert "takes a token with the scope override" in seen(page)
        for action, fields in (
            ("lift", {"override": "on"}),
            ("allow", {"over_complaints": "on"}),
            ("erase", {"confirm": "jane@example.org"}),
        ):
            assert (await writer.post(f"{JANE}/{action}", note="x", **fields)).status == 403
    assert len(await store.history("jane@example.org")) == 1


async def test_a_long_history_comes_in_parts(console: ConsoleClient, store: Store) -> None:
    """The newest first; what is older is added below, or is a page of its own without scripts."""
    for number in range(60):
        await store.add("jane@example.org", actor="x", note=f"number {number}.")
    page = await console.get(JANE)
    assert "60 changes" in seen(page)
    assert "number 59." in page.text
    assert "number 34." not in page.text
    (more,) = re.findall(r'hx-get="/console(/address/[^"]+changes[^"]+)"', page.text)
    older = await console.fragment(more)
    assert "number 34." in older.text
    assert "number 10." in older.text
    (last,) = re.findall(r'href="/console(/address/[^"#]+before=[^"#]+)', older.text)
    oldest = await console.get(last)
    assert "number 0." in oldest.text
    assert "To the newest" in oldest.text


async def test_a_list_of_hashes_is_used_by_whole_addresses(database_url: str) -> None:
    """Who knows the address finds it, and all actions work; nobody else learns whose the hash is."""
    settings = settings_of_list(database_url, privacy="hmac", privacy_keys=[PRIVACY_KEY])
    async with serving_console(settings) as console:
        await console.sign_in(OVERRIDER)
        assert (await console.post(f"{JANE}/add", note="x", reason="manual")).status == 303
        assert "nothing is known" in seen(await console.fragment("/address/search", q="jane@e"))
        hit = seen(await console.fragment("/address/search", q="Jane@Example.org"))
        assert hit == "jane@example.org no: added by a person"
        page = seen(await console.get(JANE))
        assert "May we write to it? No A person put it on the list" in page
        assert "The list keeps a hash of this address only." in page
        listed = await console.get("/list")
        assert "jane" not in listed.text
        (path,) = re.findall(r'href="/console(/address/hmac[^"]+)"', listed.text)
        assert "Nobody can tell from it whose it is" in seen(await console.get(path))
        assert (await console.post(f"{path}/lift", note="x")).status == 303
        assert "console:overrider has lifted it" in seen(await console.get(JANE))
