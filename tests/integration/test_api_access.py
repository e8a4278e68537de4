"""Who may ask the API, how often, and what every answer has: tokens, scopes, rates, problems, metrics."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from bridge.settings.api_section import CHECK, READ, SCOPES, ApiToken
from bridge.suppression.errors import StoreError, StoreUnavailableError
from tests.support.api_client import ALL, TOKENS, serving, token_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.api_client import ApiClient

ONE = {"addresses": ["jane@example.org"]}
CHECKS = "/v1/suppressions/check"


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[ApiClient]:
    async with serving(f"sqlite+aiosqlite:///{tmp_path}/list.sqlite3") as client:
        yield client


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        f"Basic {token_of(ALL)}",
        token_of(ALL),
        f"Bearer {token_of(ALL)}x",
        f"Bearer {token_of(ALL)[:-1]}",
        f"Bearer {token_of(ALL)} {token_of(ALL)}",
        "Bearer \xff\xfe",
        f"Bearer {'x' * 5000}",
    ],
)
async def test_without_a_valid_token_nothing_is_answered(api: ApiClient, header: str) -> None:
    """Missing, misspelt, garbled: 401, with a challenge; and nothing says how near it was."""
    answer = await api.ask("POST", CHECKS, token="", body=b"{}", headers={"Authorization": header})
    assert (answer.status, answer.problem) == (401, "unauthorized")
    assert answer.headers["WWW-Authenticate"].startswith('Bearer realm="bridge"')


async def test_the_scheme_is_read_in_any_case(api: ApiClient) -> None:
    """As RFC 9110 has it."""
    sent = {"Authorization": f"bEARER  {token_of(ALL)}"}
    assert (await api.ask("GET", "/v1/suppressions/a@b.example", token="", headers=sent)).status == 200


@pytest.mark.parametrize("scope", SCOPES)
async def test_a_token_may_do_what_its_scopes_say(api: ApiClient, scope: str) -> None:
    """A token of one scope asks for what needs another: 403, and the answer says which."""
    answer = await api.post(CHECKS, ONE, token=scope)
    assert answer.status == (200 if scope == CHECK else 403)
    answer = await api.get("/v1/suppressions/jane@example.org", token=scope)
    if scope == READ:
        assert answer.status == 200
    else:
        assert answer.problem == "insufficient-scope"
        assert f"'{scope}'" in answer.body["detail"]
        assert "'read'" in answer.body["detail"]


async def test_tokens_are_replaced_while_it_runs(api: ApiClient) -> None:
    """Old and new are valid together, under one name; then only the new one."""
    new = ApiToken(ALL, frozenset(SCOPES), "the-token-that-is-new")

    async def status(token: str) -> int:
        sent = {"Authorization": f"Bearer {token}"}
        return (await api.ask("GET", "/v1/suppressions/a@b.example", token="", headers=sent)).status

    api.access.replace_tokens([*TOKENS, new])
    assert (await status(token_of(ALL)), await status(new.token)) == (200, 200)
    api.access.replace_tokens([new])
    assert (await status(token_of(ALL)), await status(new.token)) == (401, 200)


async def test_a_rate_holds_for_each_name(tmp_path: Path) -> None:
    """Of many at once all but three are told when to come again; another token does not feel it."""
    async with serving(f"sqlite+aiosqlite:///{tmp_path}/list.sqlite3", rate=3) as api:
        answers = await asyncio.gather(*(api.post(CHECKS, ONE, token=CHECK) for _ in range(30)))
        refused = [answer for answer in answers if answer.status != 200]
        assert refused
        assert {answer.problem for answer in refused} == {"rate-limited"}
        assert {answer.headers["Retry-After"] for answer in refused} == {"1"}
        assert (await api.post(CHECKS, ONE)).status == 200


async def test_what_is_not_there_is_a_problem(api: ApiClient) -> None:
    """Paths and methods, each with a type of its own."""
    assert (await api.get("/v1/nothing")).problem == "not-found"
    assert (await api.get("/")).problem == "not-found"
    answer = await api.ask("PUT", CHECKS)
    assert (answer.status, answer.problem) == (405, "method-not-allowed")
    assert "POST" in answer.headers["Allow"]


@pytest.mark.parametrize(
    ("error", "status", "problem"),
    [
        (StoreUnavailableError("the list of db.internal cannot be used now"), 503, "list-unavailable"),
        (StoreError("the list of db.internal failed"), 500, "list-failed"),
        (ZeroDivisionError("in db.internal"), 500, "internal"),
    ],
)
async def test_a_failure_is_a_problem_and_the_next_request_is_served(
    api: ApiClient, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, problem: str
) -> None:
    """What the log says of the database is not told to clients; where waiting helps, the answer says so."""

    async def fail(*_: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(type(api.store), "check_many", fail)
        answer = await api.get("/v1/suppressions/jane@example.org")
    assert (answer.status, answer.problem) == (status, problem)
    assert "db.internal" not in str(answer.body)
    assert ("Retry-After" in answer.headers) == (status == 503)
    assert (await api.get("/v1/suppressions/jane@example.org")).status == 200


async def test_answers_are_counted_by_route_status_and_token(api: ApiClient) -> None:
    """Never by address: the label is the route's path."""
    await api.get("/v1/suppressions/jane@example.org")
    await api.get("/v1/suppressions/jane@example.org", token=CHECK)
    await api.get("/v1/suppressions/joe@example.org", token="")
    await api.get("/anything")
    text = api.metrics.exposition().decode()
    for labels in (
        'route="GET /v1/suppressions/{address}",status="200",token="all"',
        'route="GET /v1/suppressions/{address}",status="403",token="check"',
        'route="GET /v1/suppressions/{address}",status="401",token="none"',
        'route="none",status="404",token="none"',
    ):
        assert f"bridge_api_answers_total{{{labels}}} 1.0" in text
    assert 'bridge_api_answer_seconds_count{route="GET /v1/suppressions/{address}"} 3.0' in text
    assert "jane" not in text
