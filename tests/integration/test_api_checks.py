"""What the API answers to "may I write to these?", on both databases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from bridge.suppression.policy import Reason
from bridge.suppression.suppressing_events import SuppressingEvent
from tests.support.api_client import NOW, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.api_client import ApiClient

CHECKS = "/v1/suppressions/check"
SINCE = "2023-11-14T22:13:20Z"
"""`NOW`, in RFC 3339."""
NO_ADDRESSES = (
    "",
    "no at-sign",
    "@example.org",
    "a@",
    "a@b@c",
    "jane@example.org\r\nBcc: joe@example.org",
    "a" * 5000,
    f"{'a' * 310}@example.org",
    "\x00@b.c",
    "Jane <jane@example.org>, joe@example.org",
)
SPELLINGS = (
    "JANE@EXAMPLE.ORG",
    " jane@example.org ",
    '"Jane" <jane@example.org>',
    "jane@\uff45xample.org",
    '"jane"@example.org',
)


@pytest.fixture
async def api(database_url: str) -> AsyncIterator[ApiClient]:
    async with serving(database_url) as client:
        event = SuppressingEvent("jane@example.org", Reason.HARD_BOUNCE, "e1", NOW, "m1", b'{"raw": true}')
        await client.store.record([event], actor="worker")
        await client.store.add("joe@example.org", actor="ann", note="asked", expires_at=NOW + 60)
        yield client


async def checked(api: ApiClient, *addresses: str) -> list[dict[str, Any]]:
    answer = await api.post(CHECKS, {"addresses": addresses})
    assert answer.status == 200
    found: list[dict[str, Any]] = answer.body["results"]
    return found


async def test_each_address_is_answered_in_the_order_asked(api: ApiClient) -> None:
    """Allowed or not, why, since when and until when; one that is asked twice is answered twice."""
    allowed = {
        "address": "ann@example.org",
        "allowed": True,
        "reasons": [],
        "allow_rule": None,
        "error": None,
    }
    jane = {
        "address": "Jane@EXAMPLE.org",
        "allowed": False,
        "reasons": [{"reason": "hard_bounce", "since": SINCE, "expires": None}],
        "allow_rule": None,
        "error": None,
    }
    joe = {
        "address": "joe@example.org",
        "allowed": False,
        "reasons": [{"reason": "manual", "since": SINCE, "expires": "2023-11-14T22:14:20Z"}],
        "allow_rule": None,
        "error": None,
    }
    asked = ["ann@example.org", "Jane@EXAMPLE.org", "joe@example.org", "ann@example.org"]
    assert await checked(api, *asked) == [allowed, jane, joe, allowed]
    api.clock.now += 61
    assert [one["allowed"] for one in await checked(api, *asked)] == [True, False, True, True]


async def test_what_is_no_address_has_an_error_of_its_own(api: ApiClient) -> None:
    """The others are answered; what nobody can write to is not allowed either."""
    first, *bad, last = await checked(api, "jane@example.org", *NO_ADDRESSES, "ann@example.org")
    assert (first["allowed"], last["allowed"]) == (False, True)
    assert [one["address"] for one in bad] == list(NO_ADDRESSES)
    for one in bad:
        assert (one["allowed"], one["reasons"]) == (False, [])
        assert one["error"]


async def test_any_spelling_of_an_address_is_found(api: ApiClient) -> None:
    """Case, blanks, display names, full-width letters and quotes."""
    found = await checked(api, *SPELLINGS)
    assert [(one["address"], one["allowed"]) for one in found] == [(one, False) for one in SPELLINGS]


async def test_an_international_domain_is_one_address(api: ApiClient) -> None:
    """In its own letters, and in IDNA."""
    await api.store.add("jane@bücher.example", actor="ann", note="")
    found = await checked(api, "jane@bücher.example", "jane@xn--bcher-kva.example", "jane@BÜCHER.example")
    assert [one["allowed"] for one in found] == [False] * 3


async def test_one_address_is_explained(api: ApiClient) -> None:
    """With the event that has put it on the list; the address is percent-encoded."""
    answer = await api.get("/v1/suppressions/Jane%40example.org")
    assert (answer.status, answer.body["allowed"]) == (200, False)
    (entry,) = answer.body["entries"]
    assert (entry["address"], entry["message_id"], entry["evidence"]) == (
        "jane@example.org",
        "m1",
        '{"raw": true}',
    )
    answer = await api.get("/v1/suppressions/ann@example.org")
    assert (answer.status, answer.body["allowed"], answer.body["entries"]) == (200, True, [])
    answer = await api.get("/v1/suppressions/ann")
    assert (answer.status, answer.problem, answer.places) == (422, "invalid-request", ["address"])
    await api.store.add("a/b%2Fc@example.org", actor="ann", note="")
    assert (await api.get("/v1/suppressions/a%2Fb%252Fc@example.org")).body["allowed"] is False


async def test_ten_thousand_addresses_are_one_request_and_one_more_is_refused(api: ApiClient) -> None:
    """With one that is on the list at the end."""
    addresses = [f"user{number}@example.org" for number in range(9_999)]
    found = await checked(api, *addresses, "jane@example.org")
    assert [one["allowed"] for one in found] == [True] * 9_999 + [False]
    answer = await api.post(CHECKS, {"addresses": [*addresses, "a@b.example", "c@d.example"]})
    assert (answer.status, answer.places) == (422, ["addresses"])
    assert "10001" in answer.body["detail"]


async def test_addresses_are_counted(api: ApiClient) -> None:
    """By what was answered."""
    await checked(api, "jane@example.org", "ann@example.org", "eve@example.org", "nobody")
    text = api.metrics.exposition().decode()
    for result, count in (("allowed", 2), ("suppressed", 1), ("invalid", 1)):
        assert f'bridge_api_addresses_checked_total{{result="{result}"}} {count}.0' in text
