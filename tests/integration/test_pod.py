"""The bridge where a platform starts it: its variables, its mounts, and folders that may not be entered."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import TOKEN
from tests.support.commands import bridge, unprivileged_bridge
from tests.support.manual import every_command
from tests.support.pod import SERVICES, service_links
from tests.support.showing import shown
from tests.support.unprivileged import sealed

if TYPE_CHECKING:
    from pathlib import Path

    from bridge.development.simulator import Simulator
    from bridge.settings.sections import Settings
    from tests.support.processes import Processes
    from tests.support.rabbit import Rabbit

LINKS = service_links(*SERVICES)
OURS = sorted(name for name in LINKS if name.startswith("BRIDGE_"))
IGNORED = f"bridge: variables that are not settings are ignored: {OURS[0]}, "
ROLES = ("receiver", "worker", "api", "dev", "simulator")


@pytest.mark.parametrize(
    ("arguments", "started", "changes"),
    [
        (["receiver"], "receiver.started", {}),
        # Both are stopped while they start, which takes some seconds on a busy machine.
        (
            ["receiver"],
            "receiver.supervisor_started",
            {"receiver": {"processes": 2, "drain_timeout": 20.0}},
        ),
        (["worker"], "worker.started", {}),
        (["simulator", "--port", "0"], "simulator.started", {}),
    ],
    ids=["receiver", "receivers", "worker", "simulator"],
)
async def test_every_role_starts_among_service_links(
    processes: Processes,
    overrides: dict[str, dict[str, Any]],
    arguments: list[str],
    started: str,
    changes: dict[str, dict[str, Any]],
) -> None:
    """It names the variables in one warning of its log, which stays JSON, and works."""
    for section, values in changes.items():
        overrides[section] |= values
    role = await processes.start(*arguments, overrides=overrides, environment=LINKS)
    assert (await role.says("process.foreign_variables"))["variables"] == OURS
    await role.says(started)
    role.send(signal.SIGTERM)
    assert await role.ended() == 0
    assert all(line.startswith("{") for line in role.lines)
    assert sum("process.foreign_variables" in line for line in role.lines) == 1


async def test_all_of_it_on_one_machine_starts_among_service_links(
    processes: Processes, prefix: str, amqp_url: str, tmp_path: Path
) -> None:
    """`bridge dev`, until it prints what to try."""
    dev = await processes.start(
        "dev", "--directory", str(tmp_path / "dev"), "--port", "0", "--api-port", "0", "--rabbitmq-url", amqp_url,
        overrides={"rabbitmq": {"prefix": prefix}}, environment=LINKS,
    )  # fmt: skip
    await dev.prints("curl")
    dev.send(signal.SIGINT)
    assert await dev.ended() == 0
    assert sum(IGNORED in line for line in dev.lines) == 1


async def test_every_other_command_starts_among_service_links(
    settings: Settings, rabbit: Rabbit, simulator: Simulator, tmp_path: Path
) -> None:
    """Whatever it finds then: it is not the variables that end it, and it names them once."""
    arguments = {"check": ["a@b.example"], "add": ["a@b.example"], "remove": ["a@b.example"]} | {
        "history": ["a@b.example"], "import": ["a.csv"], "erase": ["a@b.example", "--dry-run"], "grant": ["a"], "show": ["id"], "restore": ["a.jsonl"], "replay": ["--dry-run", "--all"], "simulate": ["--count", "1"],
        "discard": ["--dry-run", "--all"], "disable": ["http://a.example/"], "enable": ["http://a.example/"],
    }  # fmt: skip
    alone = {"webhook show": [], "config show": [], "replay": ["--dry-run"]} | {
        "contract check": ["a"], "contract export": ["a"], "subscribers add": ["a", "--changes"],
        "subscribers remove": ["a", "--yes"], "topology plan": ["--offline"],
    }  # fmt: skip
    commands = [
        [*words, *alone.get(" ".join(words), arguments.get(words[-1], []))]
        for words in sorted(
            (command.path for command in every_command() if not command.is_group),
            key=lambda words: words != ("tail",),  # it ends, for nothing is declared yet
        )
        if words[0] not in ROLES
    ]
    variables = LINKS | {
        "BRIDGE_RABBITMQ__URL": settings.rabbitmq.urls[0].get_secret_value(),
        "BRIDGE_RABBITMQ__PREFIX": rabbit.names.prefix,
        "BRIDGE_PROVIDER__BASE_URL": simulator.base_url,
        "BRIDGE_PROVIDER__API_TOKEN": simulator.token,
        "BRIDGE_RECEIVER__TOKENS": TOKEN,
        "BRIDGE_RECEIVER__PORT": "1",
    }
    outputs = await shown(commands, directory=tmp_path, terminal=False, variables=variables)
    assert len(outputs) == len(commands) > 25
    for command, (code, output) in outputs.items():
        assert code != 2, (command, output)
        # It compares files, and reads no settings.
        assert output.count(IGNORED) == (not command.startswith("contract check")), (command, output)
        assert "Traceback" not in output, (command, output)


@pytest.mark.parametrize("arguments", [["config", "show"], ["spool", "status"]])
async def test_a_command_works_among_service_links(tmp_path: Path, arguments: list[str]) -> None:
    """One line on standard error names some of the variables."""
    outcome = await bridge(*arguments, directory=tmp_path, **LINKS)
    assert outcome.code == 0, outcome.stderr
    [line] = outcome.stderr.splitlines()
    assert line.startswith(IGNORED)


@pytest.mark.parametrize("role", ["receiver", "worker"])
async def test_a_misspelt_setting_stops_the_start_among_service_links(tmp_path: Path, role: str) -> None:
    """It is no foreign variable."""
    outcome = await bridge(role, directory=tmp_path, **LINKS, BRIDGE_RECEIVER__PROT="1")
    assert (outcome.code, outcome.stdout) == (2, "")
    assert outcome.stderr.startswith("bridge: BRIDGE_RECEIVER__PROT: there is no such setting")
    assert outcome.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "variable", ["BRIDGE_SECRETS_DIR", "BRIDGE_CONFIG", "BRIDGE_PROVIDER__API_TOKEN_FILE"]
)
async def test_a_place_that_may_not_be_read_ends_with_one_line(tmp_path: Path, variable: str) -> None:
    """The defaults would be a guest at a broker of this machine and a file of its own."""
    folder = tmp_path / "locked"
    folder.mkdir()
    (folder / "file").write_text("secret")
    place = folder if variable == "BRIDGE_SECRETS_DIR" else folder / "file"
    with sealed(folder):
        outcome = await unprivileged_bridge("worker", directory=tmp_path, **{variable: str(place)})
    assert (outcome.code, outcome.stdout) == (2, "")
    [line] = outcome.stderr.splitlines()
    assert line.startswith("bridge: ")
    assert str(place) in line
    assert "Permission denied" in line


@pytest.mark.parametrize("command", [["suppressions", "list"], ["worker"]])
async def test_a_home_that_may_not_be_entered_ends_with_one_line(tmp_path: Path, command: list[str]) -> None:
    """PostgreSQL's driver looks for a key there: that is no server that is away for a while."""
    home = tmp_path / "home"
    home.mkdir()
    with sealed(home):
        outcome = await unprivileged_bridge(
            *command, directory=tmp_path,
            HOME=str(home), BRIDGE_SUPPRESSION__DATABASE_URL="postgresql://bridge:x@127.0.0.1:1/list",
            BRIDGE_RABBITMQ__URL="amqp://127.0.0.1:1/", BRIDGE_HEALTH__PORT="0",
        )  # fmt: skip
    assert outcome.code == 1
    assert f"cannot read {home}" in outcome.stderr
    assert outcome.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "command",
    [
        ["suppressions", "list"],
        ["doctor"],
        ["dead", "discard", "--all", "--yes", "--to", "locked/letters.jsonl"],
    ],
    ids=" ".join,
)
async def test_a_folder_that_may_not_be_entered_ends_with_no_traceback(
    tmp_path: Path, command: list[str]
) -> None:
    """Where the list is to be, the spool, or the file for what is discarded."""
    folder = tmp_path / "locked"
    folder.mkdir()
    with sealed(folder):
        outcome = await unprivileged_bridge(
            *command, directory=tmp_path,
            BRIDGE_SUPPRESSION__DATABASE_URL=f"sqlite+aiosqlite:///{folder}/list.sqlite3",
            BRIDGE_SPOOL__DIRECTORY=f"{folder}/spool",
            BRIDGE_RABBITMQ__URL="amqp://127.0.0.1:1/", BRIDGE_HEALTH__PORT="0",
        )  # fmt: skip
    assert outcome.code == 1
    assert "Traceback" not in outcome.stderr
    assert outcome.stderr.count("\n") <= 1
    assert "Permission denied" in outcome.stdout + outcome.stderr or "discard" in command


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["receiver"], 2),
        (["worker"], 2),
        (["topology", "apply"], 2),
        (["replay", "--to", "crm"], 2),
        (["dead", "list"], 1),
        (["doctor"], 1),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
async def test_a_certificate_that_may_not_be_read_is_no_broker_that_is_away(
    tmp_path: Path, command: list[str], code: int
) -> None:
    """Whatever connects to RabbitMQ with it ends at its start, and names the file."""
    folder = tmp_path / "locked"
    folder.mkdir()
    (folder / "authority.pem").touch()
    with sealed(folder):
        outcome = await unprivileged_bridge(
            *command, directory=tmp_path, BRIDGE_HEALTH__PORT="0",
            BRIDGE_RECEIVER__PORT="0", BRIDGE_RECEIVER__TOKENS=TOKEN,
            BRIDGE_RABBITMQ__URL=f"amqps://a:b@127.0.0.1:1/?cafile={folder}/authority.pem",
        )  # fmt: skip
    assert outcome.code == code
    assert f"cafile: cannot use {folder}/authority.pem: Permission denied" in outcome.stdout + outcome.stderr
    assert "Traceback" not in outcome.stderr
    assert "broker.retry" not in outcome.stderr
