"""What others have written is shown on a terminal and steers nothing, whichever command shows it."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Any

import aio_pika
import orjson
import pytest
from aiohttp import web

from bridge import events
from bridge import settings as knobs
from bridge.broker.message import of_body
from bridge.suppression.policy import Reason
from bridge.suppression.store import Incident, Store
from tests.conftest import TOKEN
from tests.support.showing import shown
from tests.support.working import AT, body_of, properties_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from bridge.provider.simulator import Simulator
    from bridge.settings import Settings
    from tests.support.rabbit import Rabbit
    from tests.support.working import Workplace

HOSTILE = (
    "\x1b[31m\x1b]0;x\x07\x9b1m\x7f\u202eab\u2066\u200f\u061c\u2028\u2029\r\n\x08[bold]b[/bold][/] :smile:"
)
IN_A_PATH = HOSTILE.replace("/", "")
QUARANTINED = orjson.dumps({"a": HOSTILE}).replace(b"\\u001b", b"\x1b")
"""With escape characters that JSON would not allow."""
ADDRESS = "recipient1@example.org"


@pytest.fixture
async def health() -> AsyncIterator[str]:
    """A role whose health and metrics are full of it."""

    async def ready(_: web.Request) -> web.Response:
        return web.json_response(
            {"status": "not ready", HOSTILE: {"state": HOSTILE, "reason": HOSTILE}}, status=503
        )

    async def metrics(_: web.Request) -> web.Response:
        name = HOSTILE.replace("\r\n", "\\n")
        return web.Response(text=f'bridge_events_received_total{{name="{name}"}} 1\nbridge_build_info 1\n')

    app = web.Application()
    app.router.add_get("/readyz", ready)
    app.router.add_get("/livez", ready)
    app.router.add_get("/metrics", metrics)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest.fixture
async def everywhere(
    settings: Settings, workplace: Workplace, rabbit: Rabbit, simulator: Simulator, tmp_path: Path
) -> None:
    """It stands in the list, in the dead letters, in the quarantine, at the provider, in names of files."""
    async with Store.open(settings.suppression.database_url.get_secret_value()) as store:
        await store.add(ADDRESS, actor=HOSTILE, note=HOSTILE)
        incident = Incident(
            '"[bold]b"@example.org', Reason.HARD_BOUNCE, HOSTILE, AT, HOSTILE, HOSTILE.encode()
        )
        await store.record([incident], actor=HOSTILE)
    headers: dict[str, Any] = dict.fromkeys(
        ("dead-reason", "dead-error", "retry-where", HOSTILE[:60]), HOSTILE
    )
    body = QUARANTINED
    async with rabbit.channel() as channel:
        letter = aio_pika.Message(body, message_id=f"letter{HOSTILE}", type=HOSTILE, headers=headers)
        await channel.default_exchange.publish(letter, routing_key=rabbit.names.dead)
        underlay = await channel.get_underlay_channel()
        for malformed in (body, orjson.dumps({"message": {"id": 1}, "event": {"name": HOSTILE}})):
            message = of_body(malformed, exchange=rabbit.names.events, received_at=AT * 1000)
            await underlay.basic_publish(
                malformed,
                exchange=message.exchange,
                routing_key=message.routing_key,
                properties=properties_of(message),
            )
    await workplace.send(body_of("hard_bounced", 1))
    simulator.webhook_url = f"http://h/{HOSTILE}"
    (tmp_path / f"spool{IN_A_PATH}").mkdir()
    (tmp_path / f"spool{IN_A_PATH}" / "spool-7.sqlite3").write_text(HOSTILE)


@pytest.mark.parametrize("terminal", [True, False], ids=["terminal", "pipe"])
@pytest.mark.usefixtures("everywhere")
async def test_no_command_writes_what_steers_a_terminal(
    settings: Settings, health: str, simulator: Simulator, tmp_path: Path, *, terminal: bool
) -> None:
    """Neither for people nor as JSON, neither what it found nor what was asked; and nothing of it is markup."""
    asked = HOSTILE.replace("\r\n", "")
    commands = [
        ["suppressions", "list"],
        ["suppressions", "list", "--json"],
        ["suppressions", "history", ADDRESS],
        ["suppressions", "history", ADDRESS, "--json"],
        ["suppressions", "check", f"{asked}@example.org"],
        ["suppressions", "add", "b@example.org", "--note", asked, "--actor", asked, "--json"],
        ["suppressions", "remove", f"{asked}@example.org"],
        ["dead", "list"],
        ["dead", "list", "--json"],
        ["dead", "show", f"letter{HOSTILE}"],
        ["dead", "show", f"letter{HOSTILE}", "--json"],
        ["dead", "show", asked],
        ["dead", "list", "--older-than", asked],
        ["dead", "replay", "--all", "--dry-run"],
        ["dead", "discard", "--all", "--yes", "--to", f"{asked.replace('/', '')}.jsonl"],
        ["quarantine", "list"],
        ["quarantine", "list", "--json"],
        ["quarantine", "show", events.digest(QUARANTINED)],
        ["quarantine", "show", events.digest(QUARANTINED), "--json"],
        ["quarantine", "replay", asked],
        ["quarantine", "discard", "--all", "--yes", "--to", "quarantine.jsonl"],
        ["replay", "--dry-run", "--event", asked],
        ["replay", "--to", asked],
        ["replay", "--since", asked, "--dry-run"],
        ["spool", "status"],
        ["spool", "status", "--json"],
        ["topology", "plan"],
        ["topology", "plan", "--json"],
        ["config", "show"],
        ["config", "show", "--json"],
        ["db", "status"],
        ["webhook", "show"],
        ["webhook", "show", "--json"],
        ["status", "--metrics", health, "--over", "0"],
        ["status", "--metrics", health, "--over", "0", "--json"],
        ["doctor"],
        ["doctor", "--json"],
        ["simulate", "--url", asked],
        ["--config", asked.replace("/", ""), "config", "show"],
        [asked],
    ]
    outputs = await shown(
        commands, directory=tmp_path, terminal=terminal, variables=_variables(settings, simulator, tmp_path)
    )
    assert len(outputs) == len(commands)
    for command, (code, output) in outputs.items():
        steering = {character for character in output if _steers(character)}
        assert not steering, (command, output)
        assert "Traceback" not in output, (command, code, output)
    for command in (
        "webhook show",
        f"dead show letter{HOSTILE}",
        f"quarantine show {events.digest(QUARANTINED)}",
    ):
        assert "[bold]b[/bold][/] :smile:" in outputs[command][1], "nor is it read as markup"
    exact = orjson.loads(outputs[f"suppressions history {ADDRESS} --json"][1])
    assert exact[0]["note"] == HOSTILE, "what programs read says all of it"


def _steers(character: str) -> bool:
    if character in "\n\t":
        return False
    category = unicodedata.category(character)
    turns = unicodedata.bidirectional(character) in {
        "LRE",
        "LRO",
        "RLE",
        "RLO",
        "PDF",
        "LRI",
        "RLI",
        "FSI",
        "PDI",
    }
    return category in {"Cc", "Cs", "Zl", "Zp"} or turns or character in "\u200e\u200f\u061c"


def _variables(settings: Settings, simulator: Simulator, directory: Path) -> dict[str, str]:
    rabbitmq = settings.rabbitmq
    return {
        "BRIDGE_RABBITMQ__URLS": rabbitmq.urls[0].get_secret_value(),
        "BRIDGE_RABBITMQ__PREFIX": rabbitmq.prefix,
        "BRIDGE_RABBITMQ__MANAGEMENT_URL": "http://127.0.0.1:1",
        "BRIDGE_SUPPRESSION__DATABASE_URL": settings.suppression.database_url.get_secret_value(),
        "BRIDGE_SPOOL__DIRECTORY": f"{directory}/spool{IN_A_PATH}",
        "BRIDGE_PROVIDER__BASE_URL": simulator.base_url,
        "BRIDGE_PROVIDER__API_TOKEN": simulator.token,
        "BRIDGE_RECEIVER__TOKENS": TOKEN,
        knobs.CONFIG_VARIABLE: "",
    }
