"""Every command explains itself, and talks to programs: whoever adds one is reminded of both."""

from __future__ import annotations

import os
import re
import shlex
from typing import TYPE_CHECKING, Any

import pytest
import typer
from typer.testing import CliRunner

from bridge.cli import main
from bridge.settings import sections
from bridge.settings.sources import CONFIG_VARIABLE, SECRETS_VARIABLE
from tests.support.manual import every_command

if TYPE_CHECKING:
    from tests.support.manual import Command

ALL = every_command()
ONLY_LOGS = {("receiver",), ("worker",), ("simulator",)}
"""What they have to say are logs, which `logs.format` makes JSON."""
VARIABLES = {CONFIG_VARIABLE, SECRETS_VARIABLE, "BRIDGE_SUBSCRIBERS"} | {
    knob.variable for knob in sections.setting_names()
}


def common_errors(command: Command) -> str:
    return " ".join(command.path) or "bridge"


def test_all_are_found() -> None:
    """The walk through the parser sees what there is, in groups and out of them."""
    paths = {command.path for command in ALL}
    assert {("receiver",), ("dead",), ("dead", "replay"), ("config", "show"), ("db", "upgrade")} <= paths
    assert len(paths) == len(ALL) > 35


@pytest.mark.parametrize("command", ALL, ids=common_errors)
def test_help_has_an_example_the_variables_and_the_exit_codes(command: Command) -> None:
    """A line to copy which the parser takes, variables that there are, and what each exit code means."""
    outcome = CliRunner().invoke(main.app, [*command.path, "--help"], env={"COLUMNS": "80"})
    assert outcome.exit_code == 0
    text = " ".join(outcome.stdout.split())
    found = re.search(r"Example: bridge (.+?) Environment: (.+?)\. Exit codes: 0, .+; 1, .+; 2, .+\.$", text)
    assert found, text
    assert set(found[2].split(", ")) <= VARIABLES
    arguments = shlex.split(found[1].partition(" > ")[0])
    parsed = taken(arguments)
    assert parsed[: len(command.path)] == command.path, "the example is of this command"


def taken(arguments: list[str]) -> tuple[str, ...]:
    """Which command takes them all; Click raises where one does not fit."""
    parser = typer.main.get_command(main.app)
    context = parser.make_context("bridge", arguments)
    path: list[str] = []
    while rest := [*context._protected_args, *context.args]:
        group: Any = context.command
        name, member, left = group.resolve_command(context, rest)
        path.append(name)
        context = member.make_context(name, left, parent=context)
    return tuple(path)


@pytest.mark.parametrize(
    "command", [one for one in ALL if not one.is_group and one.path not in ONLY_LOGS], ids=common_errors
)
def test_every_command_has_json(command: Command) -> None:
    """For programs, whatever it does."""
    assert "--json" in {name for option in command.parser.params for name in option.opts}


@pytest.mark.parametrize("command", [one for one in ALL if one.path[-1:] == ("list",)], ids=common_errors)
def test_every_list_can_be_read_in_parts_and_is_whole_unless_it_is_asked_for(command: Command) -> None:
    """The same two options everywhere, and no limit that nobody has named."""
    options = {option.name: option for option in command.parser.params}
    assert {"limit", "after"} <= options.keys()
    assert options["limit"].default is None


def test_the_version_is_said() -> None:
    """In one line, as metrics have it."""
    outcome = CliRunner().invoke(main.app, ["--version"], env=dict.fromkeys(os.environ, ""))
    assert outcome.exit_code == 0
    assert re.fullmatch(r"bridge \d+\.\d+\.\d+\n", outcome.stdout)
