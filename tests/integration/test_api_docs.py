"""Every curl line of docs/api.md runs as it is written, and answers what the page shows."""

from __future__ import annotations

import asyncio
import os
import re
from typing import TYPE_CHECKING, NamedTuple

import orjson

from bridge.settings.api_section import SCOPES, ApiToken
from bridge.suppression.policy import Reason
from bridge.suppression.suppressing_events import SuppressingEvent
from bridge.timestamps import rfc3339
from tests.docs.tables import ROOT
from tests.support.api_client import serving

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.api_client import ApiClient

BLOCK = re.compile(
    r"^```sh\n(?P<commands>.*?)^```$(?:\n\n```json\n(?P<output>.*?)^```$)?", re.DOTALL | re.MULTILINE
)
TIME = re.compile(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ")
AT = 1_795_676_400
"""2026-11-26T07:00:00Z, when the page's events happen."""
TOKEN = ApiToken("docs", frozenset(SCOPES), "the-token-of-the-page")


class Step(NamedTuple):
    commands: str
    output: str
    """JSON; empty: the page does not show it."""


def steps_of(text: str) -> list[Step]:
    """Each block of commands, with the JSON right below it."""
    return [Step(found["commands"], found["output"] or "") for found in BLOCK.finditer(text)]


async def run(commands: str, api: ApiClient) -> tuple[int, str]:
    """The exit code and output of these commands in a shell, where an answer that is an error is one of curl, too."""
    failing = 'curl() { command curl --fail-with-body "$@"; }\nset -e\n'
    process = await asyncio.create_subprocess_exec(
        "bash", "-c", failing + commands,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        env=os.environ | {"API": f"http://127.0.0.1:{api.port}", "TOKEN": TOKEN.token},
    )  # fmt: skip
    output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


async def test_the_page_is_as_the_api_answers(tmp_path: Path) -> None:
    """Block by block, but for times."""
    assert rfc3339(AT) == "2026-11-26T07:00:00Z"
    url = f"sqlite+aiosqlite:///{tmp_path}/list.sqlite3"
    async with serving(url, privacy_key="k1:a-secret-of-the-tests-01234567890") as api:
        api.access.replace_tokens([TOKEN])
        api.clock.now = AT + 1
        bounce = b'{"event": {"name": "hard_bounced"}}'
        for event in (
            SuppressingEvent("jane@example.org", Reason.HARD_BOUNCE, "e1", AT, "17", bounce),
            SuppressingEvent("tom@example.org", Reason.COMPLAINT, "e2", AT, "18", b"{}"),
        ):
            await api.store.record([event], actor="worker")
        api.freshness.as_of = rfc3339(AT + 3600)
        text = (ROOT / "docs" / "api.md").read_text()
        steps = steps_of(text)
        assert "".join(step.commands for step in steps).count("curl ") == text.count("curl ") > len(steps)
        for step in steps:
            code, output = await run(step.commands, api)
            assert code == 0, (step.commands, output)
            if step.output:
                assert masked(output) == masked(step.output), step.commands


def masked(text: str) -> object:
    return orjson.loads(TIME.sub("TIME", text))
