"""The API's entries: read in pages, added, removed, explained, erased, written out; on both databases."""

from __future__ import annotations

import csv
import io
import re
from typing import TYPE_CHECKING, Any

import aiohttp
import orjson
import pytest

from bridge.settings.api_section import OVERRIDE, READ, WRITE
from bridge.suppression.errors import StoreUnavailableError
from bridge.suppression.policy import Reason
from bridge.suppression.pruning import LOG_MARK
from bridge.suppression.suppressing_events import SuppressingEvent
from bridge.suppression.transfer.exporting import Exporter
from bridge.timestamps import rfc3339
from tests.support import stores
from tests.support.api_client import NOW, serving, token_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.api_client import ApiClient

LIST = "/v1/suppressions"
JANE = f"{LIST}/jane@example.org"


@pytest.fixture
async def api(database_url: str) -> AsyncIterator[ApiClient]:
    async with serving(database_url) as client:
        yield client


async def record(api: ApiClient, address: str, reason: Reason, at: int = NOW) -> None:
    event = SuppressingEvent(address, reason, f"{address}-{reason}-{at}", at, "m1", b'{"raw": true}')
    await api.store.record([event], actor="worker")


def addition(address: str, **more: Any) -> dict[str, Any]:
    return {"suppressions": [{"address": address} | more]}


async def addresses(api: ApiClient, path: str = LIST, **query: Any) -> list[str]:
    answer = await api.get(path, **query)
    assert answer.status == 200
    return [entry["address"] for entry in answer.body["suppressions"]]


async def test_the_list_is_read_in_pages_that_survive_changes(api: ApiClient) -> None:
    """Link and cursor lead to the rest, whatever is added or removed meanwhile; the filters stay."""
    for name in "bdf":
        await api.store.add(f"{name}@example.org", actor="ann", note="")
    await api.store.add("x@other.example", actor="ann", note="")
    answer = await api.get(LIST, domain="EXAMPLE.org", limit=1)
    assert [entry["address"] for entry in answer.body["suppressions"]] == ["b@example.org"]
    await api.store.remove("b@example.org", reason=None, actor="ann", note="")
    await api.store.add("a@example.org", actor="ann", note="")
    await api.store.add("c@example.org", actor="ann", note="")
    link = re.fullmatch(r'<(/v1/suppressions\?.+)>; rel="next"', answer.headers["Link"])
    assert link is not None
    assert await addresses(api, link[1]) == ["c@example.org"]
    assert await addresses(api, domain="example.org", cursor=answer.body["next"]) == [
        "c@example.org", "d@example.org", "f@example.org"
    ]  # fmt: skip
    last = await api.get(LIST)
    assert ("Link" in last.headers, last.body["next"]) == (False, None)


async def test_the_list_is_filtered(api: ApiClient) -> None:
    """By reason, a part of the address, when it was changed, and when it ends."""
    await record(api, "bounced@example.org", Reason.HARD_BOUNCE)
    api.clock.now += 100
    await api.store.add("added@example.org", actor="ann", note="", expires_at=NOW + 500)
    assert await addresses(api, reason="hard_bounce") == ["bounced@example.org"]
    assert await addresses(api, text="OUNC") == ["bounced@example.org"]
    assert await addresses(api, text="100%_") == []
    assert await addresses(api, changed_since="2023-11-14T22:13:21Z") == ["added@example.org"]
    assert await addresses(api, expiring_before="2023-11-14T22:21:41+00:00") == ["added@example.org"]
    assert await addresses(api, expiring_before="2023-11-14T22:21:40Z") == []


async def test_many_are_added_each_with_a_result(api: ApiClient) -> None:
    """New or known, and one that is no address; the actor is the token's name."""
    await api.store.add("old@example.org", actor="ann", note="")
    items = [
        {"address": "Jane@Example.org", "note": "asked by phone", "expires_at": "2023-11-14T23:13:20Z"},
        {"address": "old@example.org"},
        {"address": "no address", "reason": "complaint"},
        {"address": "joe@example.org", "reason": "unsubscribe"},
    ]
    answer = await api.post(LIST, {"suppressions": items}, token=WRITE)
    assert answer.status == 200
    results = answer.body["results"]
    assert [(one["address"], one["reason"], one["outcome"]) for one in results] == [
        ("Jane@Example.org", "manual", "added"),
        ("old@example.org", "manual", "updated"),
        ("no address", "complaint", None),
        ("joe@example.org", "unsubscribe", "added"),
    ]
    assert [bool(one["error"]) for one in results] == [False, False, True, False]
    (entry,) = await api.store.check("jane@example.org")
    assert entry.expires_at == NOW + 3600
    (change,) = await api.store.history("jane@example.org")
    assert (change.actor, change.note) == ("api:write", "asked by phone")


async def test_a_request_that_does_not_fit_adds_nothing(api: ApiClient) -> None:
    """Not even those of its addresses that are fine."""
    good = {"address": "jane@example.org"}
    for bad, place in (
        ("jane@example.org", "suppressions[1]"),
        ({}, "suppressions[1].address"),
        ({"address": 5}, "suppressions[1].address"),
        (good | {"reason": "because"}, "suppressions[1].reason"),
        (good | {"note": "x" * 1001}, "suppressions[1].note"),
        (good | {"note": "\x00"}, "suppressions[1].note"),
        (good | {"note": None}, "suppressions[1].note"),
        (good | {"expires_at": "tomorrow"}, "suppressions[1].expires_at"),
        (good | {"expires_at": 5}, "suppressions[1].expires_at"),
        (good | {"expires": None}, "suppressions[1].expires"),
    ):
        answer = await api.post(LIST, {"suppressions": [good, bad]})
        assert (answer.status, answer.places) == (422, [place]), bad
    answer = await api.post(LIST, {"suppressions": [good] * 1001})
    assert (answer.status, answer.places) == (422, ["suppressions"])
    assert await addresses(api) == []


async def test_a_repeated_request_with_its_key_adds_once(api: ApiClient) -> None:
    """The answer is that of the first; with another body the key is refused; another token's key is another one."""
    key = {"Idempotency-Key": "order-1"}
    first = await api.post(LIST, addition("jane@example.org"), headers=key)
    assert first.body["results"][0]["outcome"] == "added"
    again = await api.post(LIST, addition("jane@example.org"), headers=key)
    assert (again.status, again.body) == (200, first.body)
    other = await api.post(LIST, addition("joe@example.org"), headers=key)
    assert (other.status, other.problem) == (409, "idempotency-conflict")
    assert await addresses(api) == ["jane@example.org"]
    another = await api.post(LIST, addition("jane@example.org"), headers=key, token=WRITE)
    assert another.body["results"][0]["outcome"] == "updated"
    for bad in ("", "x" * 256, "\xe9"):
        answer = await api.post(LIST, addition("jane@example.org"), headers={"Idempotency-Key": bad})
        assert (answer.status, answer.places) == (422, ["header.Idempotency-Key"])
    api.clock.now += 24 * 3600 + 1
    late = await api.post(LIST, addition("jane@example.org"), headers=key)
    assert late.body["results"][0]["outcome"] == "updated"


async def test_an_entry_is_removed_and_the_answer_says_what_is_left(api: ApiClient) -> None:
    """Of one reason, or of all; a second time there is none."""
    await api.store.add("jane@example.org", actor="ann", note="")
    await record(api, "jane@example.org", Reason.HARD_BOUNCE)
    answer = await api.delete(JANE, reason="manual", note="typo", token=WRITE)
    assert [one["reason"] for one in answer.body["removed"]] == ["manual"]
    assert (answer.body["allowed"], [one["reason"] for one in answer.body["reasons"]]) == (
        False,
        ["hard_bounce"],
    )
    answer = await api.delete(JANE, token=WRITE)
    assert (answer.status, answer.body["allowed"]) == (200, True)
    answer = await api.delete(JANE, token=WRITE)
    assert (answer.status, answer.problem) == (404, "not-suppressed")
    assert (await api.delete(JANE, reason="because")).places == ["query.reason"]
    assert (await api.delete(f"{LIST}/jane")).places == ["address"]


async def test_a_complaint_is_lifted_only_with_scope_and_note(api: ApiClient) -> None:
    """The scope alone does not lift it by accident, nor does the parameter alone."""
    await record(api, "jane@example.org", Reason.COMPLAINT)
    answer = await api.delete(JANE, token=WRITE)
    assert (answer.status, answer.problem) == (409, "protected-complaint")
    answer = await api.delete(JANE, override="true", note="asked us", token=WRITE)
    assert (answer.status, answer.problem) == (403, "insufficient-scope")
    assert (await api.delete(JANE, override="true")).problem == "protected-complaint"
    assert (await api.delete(JANE, note="asked us")).problem == "protected-complaint"
    assert (await api.delete(JANE, override="yes")).places == ["query.override"]
    assert (await api.get(JANE)).body["allowed"] is False
    assert (await api.delete(JANE, override="true", note="asked us")).status == 200
    assert (await api.get(JANE)).body["allowed"] is True


async def test_the_history_says_what_happened_and_what_was_then(api: ApiClient) -> None:
    """With evidence, in pages; and whether it was suppressed at a time."""
    await record(api, "jane@example.org", Reason.HARD_BOUNCE)
    api.clock.now += 100
    await api.delete(JANE, note="works again", token=WRITE)
    history = f"{JANE}/history"
    first = await api.get(history, limit=1, token=READ)
    (added,) = first.body["changes"]
    assert (added["action"], added["evidence"], added["actor"]) == ("added", '{"raw": true}', "worker")
    (removed,) = (await api.get(history, after=first.body["next"])).body["changes"]
    assert (removed["action"], removed["note"], removed["actor"]) == ("removed", "works again", "api:write")
    assert first.body["then"] is None
    then = [(await api.get(history, at=rfc3339(NOW + after))).body["then"] for after in (-1, 50, 100)]
    assert [one["suppressed"] for one in then] == [False, True, False]
    assert then[1] == {
        "at": "2023-11-14T22:14:10Z", "suppressed": True, "reasons": ["hard_bounce"], "change": added["id"]
    }  # fmt: skip


async def test_what_the_log_does_not_tell_any_more_is_not_answered(api: ApiClient, database_url: str) -> None:
    """Where old changes were deleted: since when it is complete, instead of a wrong answer."""
    mark = f"'{LOG_MARK}', {NOW}"
    await stores.execute(database_url, f"INSERT INTO marks VALUES ({mark})")  # noqa: S608 -- our own words
    answer = await api.get(f"{JANE}/history", at=rfc3339(NOW - 1))
    assert (answer.status, answer.places) == (422, ["query.at"])
    assert "complete since 2023-11-14T22:13:20Z" in answer.body["detail"]
    assert (await api.get(f"{JANE}/history", at=rfc3339(NOW))).body["then"]["suppressed"] is False


async def test_the_allow_list_is_read_and_changed(api: ApiClient) -> None:
    """An address or a domain; what events have suppressed is allowed by it, and the check says which rule it was."""
    await record(api, "jane@example.org", Reason.HARD_BOUNCE)
    rule = "/v1/allow/example.org"
    assert (await api.get(rule)).problem == "no-allow-rule"
    made = await api.put(rule, {"note": "ours"}, token=WRITE)
    assert (made.status, made.body["pattern"], made.body["actor"]) == (201, "example.org", "api:write")
    assert (await api.put(rule, {"note": "ours"})).status == 200
    assert (await api.get(rule)).body["note"] == "ours"
    answer = await api.get(JANE)
    assert (answer.body["allowed"], answer.body["allow_rule"], len(answer.body["entries"])) == (
        True,
        "example.org",
        1,
    )
    await api.put("/v1/allow/Joe%40Example.org", {})
    page = await api.get("/v1/allow", limit=1)
    assert [one["pattern"] for one in page.body["rules"]] == ["example.org"]
    page = await api.get("/v1/allow", cursor=page.body["next"])
    assert [one["pattern"] for one in page.body["rules"]] == ["joe@example.org"]
    assert (await api.delete(rule, note="left", token=WRITE)).status == 200
    assert (await api.delete(rule)).problem == "no-allow-rule"
    assert (await api.get(JANE)).body["allowed"] is False
    assert (await api.get("/v1/allow/nothing")).places == ["pattern"]


async def test_a_complaint_is_allowed_only_with_scope_and_note(api: ApiClient) -> None:
    """Else nothing is changed."""
    await record(api, "jane@example.org", Reason.COMPLAINT)
    rule, forced = "/v1/allow/jane@example.org", {"over_complaints": True}
    assert (await api.put(rule, forced | {"note": "staff"}, token=WRITE)).problem == "insufficient-scope"
    assert (await api.put(rule, forced)).problem == "protected-complaint"
    assert (await api.put(rule, {"over_complaints": 1})).places == ["over_complaints"]
    assert (await api.get(rule)).status == 404
    assert (await api.put(rule, forced | {"note": "staff"})).status == 201
    assert (await api.get(JANE)).body["allowed"] is True


async def test_a_person_is_erased_and_stays_suppressed(database_url: str) -> None:
    """With the scope, and a privacy key; the answer says what it could not reach."""
    async with serving(database_url, privacy_key="k1:a-secret-of-the-tests-01234567890") as api:
        await record(api, "jane@example.org", Reason.HARD_BOUNCE)
        assert (await api.post(f"{JANE}/erase", {"note": ""}, token=WRITE)).problem == "insufficient-scope"
        answer = await api.post(f"{JANE}/erase", {"note": "request 7"}, token=OVERRIDE)
        assert (answer.status, answer.body["reasons"]) == (200, ["hard_bounce"])
        assert answer.body["key"].startswith("hmac-sha256:k1:")
        assert any("archive" in one for one in answer.body["not_erased"])
        assert await addresses(api) == [answer.body["key"]]
        assert (await api.get(JANE)).body["allowed"] is False
        assert (await api.get(f"{JANE}/history")).body["changes"][0]["evidence"] is None


async def test_nobody_is_erased_without_a_privacy_key(api: ApiClient) -> None:
    """The answer says what is missing."""
    answer = await api.post(f"{JANE}/erase", {})
    assert (answer.status, answer.problem) == (409, "no-privacy-key")


async def test_the_list_is_written_out(api: ApiClient) -> None:
    """As CSV or JSON lines, more than a page of it, filtered."""
    items = [{"address": f"user{number:04}@example.org"} for number in range(1500)]
    await api.post(LIST, {"suppressions": items[:1000]})
    await api.post(LIST, {"suppressions": items[1000:]})
    await record(api, "jane@other.example", Reason.HARD_BOUNCE)
    answer = await api.get(f"{LIST}/export")
    assert answer.headers["Content-Type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(answer.body)))
    assert [row["address"] for row in rows] == ["jane@other.example", *(item["address"] for item in items)]
    answer = await api.get(f"{LIST}/export", format="ndjson", reason="hard_bounce", evidence="true")
    (document,) = map(orjson.loads, answer.body.splitlines())
    assert (document["address"], document["evidence"]) == ("jane@other.example", "eyJyYXciOiB0cnVlfQ==")
    assert (await api.get(f"{LIST}/export", format="xml")).places == ["query.format"]


async def test_messages_are_announced_all_or_none(api: ApiClient) -> None:
    """Their addresses are known then; one that does not fit is named, and nothing is kept."""
    announced = [{"id": 1, "to": "Jane@Example.org"}, {"id": "m2", "to": "joe@example.org"}]
    answer = await api.post("/v1/messages", {"messages": announced}, token=WRITE)
    assert (answer.status, answer.body) == (200, {"accepted": 2})
    known = await api.store.known_addresses(["1", "m2"])
    assert {key: address.lower() for key, address in known.items()} == {
        "1": "jane@example.org", "m2": "joe@example.org"
    }  # fmt: skip
    bad = [
        {"id": 3, "to": "ann@example.org"},
        {"id": 4, "to": "ann"},
        {"id": True, "to": "ann@example.org"},
        5,
    ]
    answer = await api.post("/v1/messages", {"messages": bad})
    assert (answer.status, answer.places) == (422, ["messages[1].to", "messages[2].id", "messages[3].id"])
    assert await api.store.known_addresses(["3"]) == {}
    documents: list[dict[str, Any]] = [
        {},
        {"messages": []},
        {"messages": "x"},
        {"id": 1, "to": "a@b.example"},
        {"messages": announced[:1] * 10_001},
    ]
    for document in documents:
        assert (await api.post("/v1/messages", document)).places == ["messages"]


async def test_an_export_says_which_change_was_the_last_in_it(api: ApiClient) -> None:
    """So whoever goes on with the next one misses none."""
    assert (await api.get(f"{LIST}/export")).headers["Last-Change"] == "0"
    await api.post(LIST, {"suppressions": [{"address": "ann@example.org"}, {"address": "joe@example.org"}]})
    last = (await api.get(f"{LIST}/export")).headers["Last-Change"]
    await api.post(LIST, {"suppressions": [{"address": "tom@example.org"}]})
    (change,) = (await api.get("/v1/changes", after=last)).body["changes"]
    assert change["address"] == "tom@example.org"


async def test_an_export_that_fails_is_cut_off_and_not_complete(
    api: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At its start it is a problem; later the client sees that the end is missing."""
    items = [{"address": f"user{number:04}@example.org"} for number in range(1500)]
    await api.post(LIST, {"suppressions": items[:1000]})
    await api.post(LIST, {"suppressions": items[1000:]})
    whole = Exporter._page

    async def fail(exporter: Exporter, names: Any, chosen: Any, after: Any) -> Any:
        if after is not None or failing_at_once:
            raise StoreUnavailableError("gone")
        return await whole(exporter, names, chosen, after)

    monkeypatch.setattr(Exporter, "_page", fail)
    for failing_at_once in (True, False):
        if failing_at_once:
            assert (await api.get(f"{LIST}/export")).problem == "list-unavailable"
        else:
            with pytest.raises(aiohttp.ClientPayloadError):
                await api.get(f"{LIST}/export")


async def test_a_client_that_leaves_an_export_harms_nobody(api: ApiClient) -> None:
    """The next one gets the whole list."""
    await api.post(
        LIST, {"suppressions": [{"address": f"user{number:04}@example.org"} for number in range(1000)]}
    )
    headers = {"Authorization": f"Bearer {token_of(READ)}"}
    async with api.session.get(api.url(f"{LIST}/export"), headers=headers) as answer:
        assert await answer.content.readline()
        answer.close()
    assert (await api.get(f"{LIST}/export")).body.count("\n") == 1001
