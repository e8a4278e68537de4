"""What others have written is shown on a terminal and steers nothing, whichever command shows it."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, Any

import aio_pika
import aiohttp
import orjson
import pytest
from aiohttp import web
from yarl import URL

from bridge import events
from bridge.broker.messages import message_from_body
from bridge.receiver.handler import WEBHOOK_PATH
from bridge.settings.sources import CONFIG_VARIABLE
from bridge.suppression.policy import Reason
from bridge.suppression.store import Store
from bridge.suppression.suppressing_events import SuppressingEvent
from tests.conftest import TOKEN
from tests.support.archiving import archive
from tests.support.manual import every_command
from tests.support.ports import free_port, free_ports
from tests.support.showing import shown, shown_while
from tests.support.working import AT, body_of, properties_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from bridge.development.simulator import Simulator
    from bridge.settings.sections import Settings
    from tests.support.rabbit import Rabbit
    from tests.support.working import Workplace

HOSTILE = (
    "\x1b[31m\x1b]0;x\x07\x9b1m\x7f\u202eab\u2066\u200f\u061c\u2028\u2029\r\n\x08[bold]b[/bold][/] :smile:"
)
IN_A_PATH = HOSTILE.replace("/", "")
SURROGATE = b'{"message": {"id": "\\ud800\\u009b1m"}, "event": {"name": "\\udfff\\u202e", "timestamp": 1}}'
"""Half of a character, which cannot be written at all."""
QUARANTINED = orjson.dumps({"a": HOSTILE}).replace(b"\\u001b", b"\x1b")
"""With escape characters that JSON would not allow."""
ADDRESS = "recipient1@example.org"
BODIES = (
    QUARANTINED,
    SURROGATE,
    HOSTILE.encode(),
    b"\x9b1m\xff",
    orjson.dumps(
        {"message": {"id": HOSTILE}, "event": {"name": "hard_bounced", "timestamp": AT, "data": {}}}
    ),
    orjson.dumps({"message": {"id": 1}, "event": {"name": HOSTILE, "timestamp": AT}}),
    orjson.dumps(
        {
            "message": {"id": 1},
            "event": {"name": "clicked", "timestamp": AT, "data": {"url": f"mailto:{HOSTILE}@a.b"}},
        }
    ),
    orjson.dumps(
        {"message": {"id": 1}, "event": {"name": "clicked", "timestamp": AT, "data": {"url": HOSTILE}}}
    ),
)
"""For roles and what shows events as they come."""
STAYING = {("receiver",), ("worker",), ("api",), ("tail",), ("dev",), ("simulator",)}
"""They stay until a signal, and have tests of their own here."""
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
"""Our own, of the logs' lines. What would set them in a body has more in it that steers."""


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
        suppressing_event = SuppressingEvent(
            '"[bold]b"@example.org', Reason.HARD_BOUNCE, HOSTILE, AT, HOSTILE, HOSTILE.encode()
        )
        await store.record([suppressing_event], actor=HOSTILE)
    headers: dict[str, Any] = dict.fromkeys(
        ("dead-reason", "dead-error", "retry-where", HOSTILE[:60]), HOSTILE
    )
    body = QUARANTINED
    async with rabbit.channel() as channel:
        letter = aio_pika.Message(body, message_id=f"letter{HOSTILE}", type=HOSTILE, headers=headers)
        await channel.default_exchange.publish(letter, routing_key=rabbit.names.dead)
        underlay = await channel.get_underlay_channel()
        for malformed in (body, SURROGATE, orjson.dumps({"message": {"id": 1}, "event": {"name": HOSTILE}})):
            message = message_from_body(malformed, exchange=rabbit.names.events, received_at=AT * 1000)
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
    quoted = HOSTILE.replace('"', '""')
    (tmp_path / f"import{IN_A_PATH}.csv").write_text(
        f'email,{quoted!r}\ne@example.org,"{quoted}"\n"{quoted}",\n'
    )


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
        ["suppressions", "list", "--after", asked],
        ["suppressions", "check", ADDRESS],
        ["suppressions", "check", ADDRESS, "--json"],
        ["suppressions", "history", ADDRESS],
        ["suppressions", "history", ADDRESS, "--json"],
        ["suppressions", "check", f"{asked}@example.org"],
        ["suppressions", "add", "b@example.org", "--note", asked, "--actor", asked, "--json"],
        ["suppressions", "add", "c@example.org", "--note", asked, "--actor", asked],
        ["suppressions", "add", f"{asked}@example.org", "--dry-run"],
        ["suppressions", "remove", ADDRESS, "--dry-run"],
        ["suppressions", "remove", ADDRESS, "--dry-run", "--json"],
        ["suppressions", "history", ADDRESS, "--limit", "1"],
        ["suppressions", "remove", f"{asked}@example.org"],
        ["suppressions", "remove", "c@example.org", "--note", asked, "--json"],
        ["suppressions", "allow", "add", "d.example", "--note", asked, "--actor", asked],
        ["suppressions", "allow", "add", f"{asked}@example.org", "--json"],
        ["suppressions", "allow", "list"],
        ["suppressions", "allow", "list", "--json"],
        ["suppressions", "allow", "list", "--after", asked],
        ["suppressions", "allow", "remove", asked],
        ["suppressions", "allow", "remove", "d.example", "--actor", asked, "--json"],
        ["suppressions", "import", f"import{IN_A_PATH}.csv", "--reason", "manual", "--dry-run"],
        [
            "suppressions",
            "import",
            f"import{IN_A_PATH}.csv",
            "--reason",
            "manual",
            "--actor",
            asked,
            "--json",
        ],
        ["suppressions", "import", asked],
        ["suppressions", "export", "--output", f"export{IN_A_PATH}.csv"],
        ["suppressions", "export", "--output", f"export{IN_A_PATH}.ndjson", "--json"],
        ["suppressions", "export", "--search", asked],
        # An export into a pipe is for an import: it changes nothing.
        *([["suppressions", "export"], ["suppressions", "export", "--format", "ndjson"]] if terminal else []),
        ["suppressions", "erase", f"{asked}@example.org", "--dry-run"],
        ["suppressions", "hash"],
        ["suppressions", "keys"],
        ["policy", "dry-run"],
        ["dead", "list"],
        ["dead", "list", "--json"],
        ["dead", "show", f"letter{HOSTILE}"],
        ["dead", "show", f"letter{HOSTILE}", "--json"],
        ["dead", "show", asked],
        ["dead", "list", "--older-than", asked],
        ["dead", "list", "--after", asked],
        ["dead", "replay", "--all", "--dry-run"],
        ["dead", "replay", "--all", "--dry-run", "--json"],
        ["dead", "replay", asked, "--json"],
        ["dead", "discard", "--all", "--dry-run", "--json"],
        ["dead", "discard", "--all", "--yes", "--to", f"{asked.replace('/', '')}.jsonl"],
        ["dead", "restore", f"{asked.replace('/', '')}.jsonl", "--dry-run"],
        ["dead", "restore", f"{asked.replace('/', '')}.jsonl", "--json"],
        ["dead", "restore", asked],
        ["quarantine", "list"],
        ["quarantine", "list", "--json"],
        ["quarantine", "show", events.digest(QUARANTINED)],
        ["quarantine", "show", events.digest(QUARANTINED), "--json"],
        ["quarantine", "show", events.digest(SURROGATE)],
        ["quarantine", "show", events.digest(SURROGATE), "--json"],
        ["quarantine", "replay", asked],
        ["quarantine", "replay", "--all", "--dry-run"],
        ["quarantine", "replay", "--all", "--dry-run", "--json"],
        ["quarantine", "replay", "--all", "--json"],
        ["quarantine", "discard", "--all", "--dry-run"],
        ["quarantine", "discard", "--all", "--yes", "--json", "--to", f"q{asked.replace('/', '')}.jsonl"],
        ["quarantine", "restore", f"q{asked.replace('/', '')}.jsonl"],
        ["quarantine", "restore", f"{asked.replace('/', '')}.jsonl", "--json"],
        ["replay", "--dry-run"],
        ["replay", "--dry-run", "--json"],
        ["replay", "--dry-run", "--event", asked],
        ["replay", "--to", asked],
        ["replay", "--since", asked, "--dry-run"],
        ["spool", "status"],
        ["spool", "status", "--json"],
        ["spool", "drain", "--dry-run"],
        ["spool", "drain", "--dry-run", "--json"],
        ["spool", "drain"],
        ["spool", "drain", "--json"],
        ["topology", "plan"],
        ["topology", "plan", "--json"],
        ["topology", "plan", "--offline"],
        ["topology", "apply", "--prune", "--yes", "--json"],
        ["topology", "export"],
        ["topology", "apply"],
        ["topology", "apply", "--json"],
        ["topology", "export", "--users", f"users{IN_A_PATH}"],
        ["subscribers", "add", "crm", "--events", "opened", "--changes", "--actor", asked],
        ["subscribers", "add", "shop", "--events", "#", "--actor", asked, "--json"],
        ["subscribers", "add", asked, "--changes"],
        ["subscribers", "add", "hostile", "--events", asked],
        ["subscribers", "list"],
        ["subscribers", "list", "--json"],
        ["subscribers", "remove", asked, "--yes"],
        ["subscribers", "remove", "crm", "--yes"],
        ["subscribers", "remove", "shop", "--yes", "--json"],
        ["contract", "export", f"contract{IN_A_PATH}"],
        ["contract", "check", f"contract{IN_A_PATH}"],
        ["contract", "check", asked],
        ["config", "show"],
        ["config", "show", "--json"],
        ["db", "status"],
        ["db", "status", "--json"],
        ["db", "grant", asked],
        ["db", "vacuum"],
        ["db", "upgrade"],
        ["db", "upgrade", "--json"],
        ["webhook", "show"],
        ["webhook", "show", "--json"],
        ["webhook", "enable", f"http://h/{asked}", "--dry-run"],
        ["webhook", "disable", f"http://h/{asked}", "--dry-run"],
        ["webhook", "disable", "--dry-run", "--json"],
        ["webhook", "disable", f"http://h/{asked}"],
        ["webhook", "enable", f"http://h/{asked}"],
        ["webhook", "enable", f"http://h/{asked}", "--json"],
        ["webhook", "disable", "--json"],
        ["status", "--metrics", health, "--over", "0"],
        ["status", "--metrics", health, "--over", "0", "--json"],
        ["doctor"],
        ["doctor", "--json"],
        ["simulate", "--url", asked],
        ["simulate", "--url", health, "--count", "1", "--rate", "100"],
        ["simulate", "--url", health, "--count", "1", "--rate", "100", "--json"],
        ["--version"],
        ["--config", asked.replace("/", ""), "config", "show"],
        [asked],
    ]
    outputs = await shown(
        commands, directory=tmp_path, terminal=terminal, variables=_variables(settings, simulator, tmp_path)
    )
    assert len(outputs) == len(commands)
    shown_here = {path for path in map(_path, commands) if path}
    known = {command.path for command in every_command() if not command.is_group}
    assert known - shown_here == STAYING, "a command has no case: here, or among those that stay"
    for command, (code, output) in outputs.items():
        steering = {character for character in _COLOURS.sub("", output) if _steers(character)}
        assert not steering, (command, output)
        assert "Traceback" not in output, (command, code, output)
    for command in (
        "webhook show",
        f"dead show letter{HOSTILE}",
        f"quarantine show {events.digest(QUARANTINED)}",
    ):
        assert "[bold]b[/bold][/] :smile:" in outputs[command][1], "nor is it read as markup"
    exact = orjson.loads(outputs[f"suppressions history {ADDRESS} --json"][1])
    assert exact["items"][0]["note"] == HOSTILE, "what programs read says all of it"


async def test_a_role_writes_nothing_that_steers_a_terminal(
    settings: Settings, overrides: dict[str, Any], rabbit: Rabbit, workplace: Workplace, tmp_path: Path
) -> None:
    """Receiver, worker, API and tail, each with bodies, names and headers full of it, and with a line for each event."""
    del workplace  # the queues must stand
    [port, api, *health] = free_ports(5)
    variables = _of_roles(settings, overrides, tmp_path)

    async def post_all(_: str) -> None:
        await _post(f"http://127.0.0.1:{port}{WEBHOOK_PATH}{TOKEN}")

    async def move_to_dead_letters(_: str) -> None:
        async with rabbit.channel() as channel:
            for body in BODIES:
                await channel.default_exchange.publish(
                    aio_pika.Message(body, message_id=HOSTILE[:50], headers={"retry-error": HOSTILE}),
                    routing_key=rabbit.names.suppression,
                )

    async def publish(_: str) -> None:
        await archive(rabbit, settings, [(body, AT * 1000) for body in (*BODIES, body_of("opened", 12))])

    # Stopped while it connects, it would show the library's own account of that at level debug.
    receiving = await shown_while(
        ["receiver"], directory=tmp_path, ready="broker.connected", act=post_all, until="receiver.accepted",
        variables=variables | {"BRIDGE_RECEIVER__PORT": str(port), "BRIDGE_HEALTH__PORT": str(health[0])},
    )  # fmt: skip
    working = await shown_while(
        ["worker"], directory=tmp_path, ready="worker.started", act=move_to_dead_letters, until="worker.dead_letter",
        variables=variables | {"BRIDGE_HEALTH__PORT": str(health[1])},
    )  # fmt: skip
    asking = await shown_while(
        ["api"], directory=tmp_path, ready="api.started", act=lambda _: _ask_api(api), until="api.started",
        variables=variables | {
            "BRIDGE_API__PORT": str(api), "BRIDGE_API__TOKENS": f"a-sender:check+read:{TOKEN}",
            "BRIDGE_HEALTH__PORT": str(health[2]),
        },
    )  # fmt: skip
    for written in (receiving, working, asking):
        _steers_nothing(_COLOURS.sub("", written))
    for arguments in (["tail"], ["tail", "--json"]):
        tailing = await shown_while(
            arguments, directory=tmp_path, ready="broker.connected", act=publish,
            until='"message_id":"12"' if "--json" in arguments else "message 12", variables=variables,
        )  # fmt: skip
        _steers_nothing(_COLOURS.sub("", tailing))


async def test_what_runs_everything_writes_nothing_that_steers_a_terminal(
    amqp_url: str, prefix: str, tmp_path: Path
) -> None:
    """`bridge dev` shows each event and each change; and the simulator is asked for what there is not."""
    (tmp_path / "dev.toml").write_text(f'[rabbitmq]\nprefix = "{prefix}"\n')

    async def post_all(written: str) -> None:
        [_, url] = next(line for line in written.splitlines() if line.startswith("webhook")).split()
        await _post(url)

    port = free_port()
    everything = await shown_while(
        ["--config", "dev.toml", "dev", "--rabbitmq-url", amqp_url, "--port", "0"],
        directory=tmp_path, variables={}, ready="Ctrl-C stops all of it.", act=post_all, until="event: opened",
    )  # fmt: skip
    _steers_nothing(_COLOURS.sub("", everything))

    async def ask(_: str) -> None:
        async with aiohttp.ClientSession() as http:
            url = URL.build(scheme="http", host="127.0.0.1", port=port, path=f"/v1/{IN_A_PATH}")
            async with http.get(url, headers={"X-It": "\x9b1m"}) as answer:
                assert answer.status >= 400

    simulating = await shown_while(
        ["simulator", "--port", str(port)], directory=tmp_path,
        variables={}, ready="simulator.started", act=ask, until="simulator.started",
    )  # fmt: skip
    _steers_nothing(_COLOURS.sub("", simulating))


async def _ask_api(port: int) -> None:
    """In a path, in a header, and as what is looked for."""
    api = URL.build(scheme="http", host="127.0.0.1", port=port, path="/v1/suppressions")
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}", "X-It": "\x9b1m"}) as http:
        async with http.get(api / IN_A_PATH) as answer:
            assert answer.status in {400, 404, 422}
        async with http.post(api / "check", json={"addresses": [HOSTILE]}) as answer:
            assert answer.status == 200


async def _post(url: str) -> None:
    """All of them, and then one that is shown last."""
    async with aiohttp.ClientSession() as http:
        for body in (*BODIES, body_of("opened", 12)):
            async with http.post(url, data=body) as answer:
                assert answer.status in {200, 400}


def _of_roles(settings: Settings, overrides: dict[str, Any], directory: Path) -> dict[str, str]:
    provider = overrides["provider"]
    return {
        "BRIDGE_RABBITMQ__URLS": settings.rabbitmq.urls[0].get_secret_value(),
        "BRIDGE_RABBITMQ__PREFIX": settings.rabbitmq.prefix,
        "BRIDGE_SUPPRESSION__DATABASE_URL": f"sqlite+aiosqlite:///{directory}/of-roles.sqlite3",
        "BRIDGE_SPOOL__DIRECTORY": f"{directory}/spool-of-roles",
        "BRIDGE_PROVIDER__BASE_URL": provider["base_url"],
        "BRIDGE_PROVIDER__API_TOKEN": provider["api_token"],
        "BRIDGE_RECEIVER__TOKENS": TOKEN,
        "BRIDGE_RECEIVER__HOST": "127.0.0.1",
        "BRIDGE_LOGS__LEVEL": "debug",
    }


def _path(arguments: list[str]) -> tuple[str, ...]:
    """Which command these arguments are of; empty where they are of none."""
    words = arguments[2:] if arguments[0] == "--config" else arguments
    return next(
        (
            one.path
            for one in every_command()
            if not one.is_group and tuple(words[: len(one.path)]) == one.path
        ),
        (),
    )


def _steers_nothing(written: str) -> None:
    assert not {character for character in written if _steers(character)}, written
    assert "Traceback" not in written


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
        CONFIG_VARIABLE: "",
    }
