"""The bridge where a platform starts it: its variables, its mounts, and folders that may not be entered."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.commands import bridge
from tests.support.pod import SERVICES, service_links
from tests.support.unprivileged import WITHOUT_PRIVILEGES, sealed

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.processes import Processes

LINKS = service_links(*SERVICES)
OURS = sorted(name for name in LINKS if name.startswith("BRIDGE_"))


@pytest.mark.parametrize(
    ("arguments", "started", "changes"),
    [
        (["receiver"], "receiver.started", {}),
        (["receiver"], "receiver.crew_started", {"receiver": {"processes": 2}}),
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


@pytest.mark.parametrize("arguments", [["config", "show"], ["spool", "status"]])
async def test_a_command_works_among_service_links(tmp_path: Path, arguments: list[str]) -> None:
    """One line on standard error names some of the variables."""
    outcome = await bridge(*arguments, directory=tmp_path, **LINKS)
    assert outcome.code == 0, outcome.stderr
    [line] = outcome.stderr.splitlines()
    assert line.startswith(f"bridge: variables that are no settings are ignored: {OURS[0]}, ")


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
        outcome = await bridge(
            "worker", directory=tmp_path, through=WITHOUT_PRIVILEGES, **{variable: str(place)}
        )
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
        outcome = await bridge(
            *command, directory=tmp_path, through=WITHOUT_PRIVILEGES,
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
        outcome = await bridge(
            *command, directory=tmp_path, through=WITHOUT_PRIVILEGES,
            BRIDGE_SUPPRESSION__DATABASE_URL=f"sqlite+aiosqlite:///{folder}/list.sqlite3",
            BRIDGE_SPOOL__DIRECTORY=f"{folder}/spool",
            BRIDGE_RABBITMQ__URL="amqp://127.0.0.1:1/", BRIDGE_HEALTH__PORT="0",
        )  # fmt: skip
    assert outcome.code == 1
    assert "Traceback" not in outcome.stderr
    assert outcome.stderr.count("\n") <= 1
    assert "Permission denied" in outcome.stdout + outcome.stderr or "discard" in command
