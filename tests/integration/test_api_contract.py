"""The OpenAPI file says what the API does: checked by its validator, by the handlers, and by requests that are made up."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from openapi_spec_validator import validate

from bridge.api import changes, checks, description, entries, fields, page, pages, problems
from bridge.api.problems import Kind
from bridge.settings.api_section import SCOPES
from bridge.suppression.announcements import MAX_MESSAGES
from bridge.suppression.policy import Reason
from tests.docs.tables import ROOT, rows_of
from tests.support.api_client import ALL, serving, token_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.api_client import ApiClient

PUBLIC = {("GET", "/openapi.json"), ("GET", "/docs"), ("GET", "/contract"), ("GET", "/contract/{file}")}
KINDS = {value for value in vars(problems).values() if isinstance(value, Kind)}
SUPPORT = Path(__file__).parents[1] / "support"


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[ApiClient]:
    url = f"sqlite+aiosqlite:///{tmp_path}/list.sqlite3"
    async with serving(url, privacy_key="k1:a-secret-of-the-tests-01234567890") as client:
        yield client


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return description.document()


def test_the_file_is_openapi(document: dict[str, Any]) -> None:
    """3.1, as its specification has it."""
    assert document["openapi"] == "3.1.0"
    validate(document)


async def test_the_file_has_every_route_and_no_other(api: ApiClient, document: dict[str, Any]) -> None:
    """Methods and paths."""
    described = {(method.upper(), path) for method, path, _ in page.operations(document)}
    served = {
        (route.method, route.resource.canonical)
        for route in api.app.router.routes()
        if route.resource is not None and route.method != "HEAD"
    }
    assert served == described | PUBLIC


async def test_each_operation_needs_the_scope_that_the_file_names(
    api: ApiClient, document: dict[str, Any]
) -> None:
    """No token: 401. One of another scope: 403, before anything else is looked at."""
    for method, path, operation in page.operations(document):
        place = re.sub(r"\{.*\}", "x", path)
        assert (await api.ask(method.upper(), place, token="")).problem == "unauthorized"
        for scope in SCOPES:
            answer = await api.ask(method.upper(), place, token=scope)
            if scope == operation["x-scope"]:
                assert answer.status not in {401, 403}, (method, path, scope)
            else:
                assert answer.problem == "insufficient-scope", (method, path, scope)
                assert f"needs '{operation['x-scope']}'" in answer.body["detail"]


def test_the_limits_of_the_file_are_those_of_the_code(document: dict[str, Any]) -> None:
    """Numbers of items, lengths, reasons."""
    schemas, parameters = (document["components"][part] for part in ("schemas", "parameters"))
    assert schemas["CheckRequest"]["properties"]["addresses"]["maxItems"] == checks.MAX_ADDRESSES
    assert schemas["AdditionRequest"]["properties"]["suppressions"]["maxItems"] == entries.MAX_ADDITIONS
    assert schemas["Announcement"]["properties"]["messages"]["maxItems"] == MAX_MESSAGES
    assert schemas["Addition"]["properties"]["note"]["maxLength"] == fields.MAX_NOTE
    assert schemas["Reason"]["enum"] == [reason.value for reason in Reason]
    assert parameters["limit"]["schema"]["maximum"] == pages.MAX_LIMIT
    assert parameters["after"]["schema"]["maximum"] == pages.MAX_ID
    feed = document["paths"]["/v1/changes"]["get"]["parameters"]
    (wait,) = (one for one in feed if one.get("name") == "wait")
    assert wait["schema"]["maximum"] == changes.MAX_WAIT
    assert document["components"]["schemas"]["Problem"]["properties"]["errors"]["description"].endswith(
        f"at most {problems.MAX_ERRORS}."
    )


def test_every_type_of_problem_is_described(document: dict[str, Any]) -> None:
    """In the file, and with its status in docs/api.md."""
    responses = document["components"]["responses"].values()
    named = {name for one in responses for name in re.findall(r"`([a-z-]+)`", one["description"])}
    assert {kind.name for kind in KINDS} - {"method-not-allowed"} == named
    rows = rows_of((ROOT / "docs" / "api.md").read_text())
    assert {(f"`{kind.name}`", str(kind.status)) for kind in KINDS} <= {(row[0], row[1]) for row in rows}


async def test_the_description_is_served_to_everybody(api: ApiClient, document: dict[str, Any]) -> None:
    """As JSON, and as a page that loads nothing from anywhere and runs nothing."""
    answer = await api.get("/openapi.json", token="")
    assert answer.body == document
    answer = await api.get("/docs", token="")
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'sha256-")
    assert "<script" not in answer.body
    assert re.findall(r'(?:src|href)="(?!#)([^"]*)"', answer.body) == ["/openapi.json"]
    for _, path, operation in page.operations(document):
        assert f'id="{operation["operationId"]}"' in answer.body
        assert path in answer.body
    for link in re.findall(r'href="#([^"]+)"', answer.body):
        assert f'id="{link}"' in answer.body, link


async def test_requests_that_are_made_up_find_no_failure(api: ApiClient, tmp_path: Path) -> None:
    """schemathesis: what fits the file is accepted, what does not is refused, and each answer is as the file has it."""
    await api.feed.close(api.app)  # else it would wait for changes
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name("schemathesis")),
        f"--config-file={SUPPORT / 'schemathesis.toml'}",
        "run", f"http://127.0.0.1:{api.port}/openapi.json",
        "--header", f"Authorization: Bearer {token_of(ALL)}",
        "--phases", "examples,fuzzing", "--max-examples", "2", "--generation-deterministic", "--no-color",
        cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        env=os.environ | {"SCHEMATHESIS_HOOKS": "tests.support.schemathesis_hooks", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    assert f"Tested: {len(list(page.operations(description.document())))}" in output.decode()
