"""Every command explains itself, and talks to programs: whoever adds one is reminded of both."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
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
ONLY_LOGS = {("receiver",), ("worker",), ("api",), ("simulator",)}
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


@pytest.mark.parametrize("command", ALL, ids=common_errors)
def test_help_is_broken_where_the_terminal_ends_and_has_only_options_of_its_command(command: Command) -> None:
    """Not where a line of the source ended; and the shell's completion is no option of a command."""
    assert not [text for text in command.parser.help.split("\n\n") if "\n" in text]
    assert not {name for option in command.parser.params for name in option.opts if "completion" in name}


def test_the_overview_has_the_words_of_each_command() -> None:
    """It is shown without loading them, so it has its own copy of their help's first paragraph."""
    helps = {name: main.load_command(name).help for name in main.COMMANDS}
    assert {name: text.partition("\n\n")[0] for name, text in helps.items()} == main.COMMANDS


@pytest.mark.parametrize("argument", ["--version", "--help"])
def test_what_is_about_no_command_loads_none(argument: str) -> None:
    """Nor what commands need: it takes a second of a processor, and shells ask for both."""
    program = "import atexit, sys; from bridge.cli.main import app; atexit.register(lambda: print(*sys.modules)); app()"
    ended = subprocess.run(
        [sys.executable, "-c", program, argument], check=True, capture_output=True, text=True
    )
    loaded = set(ended.stdout.splitlines()[-1].split())
    assert "bridge.cli.main" in loaded
    assert not loaded & {"pydantic", "structlog", "asyncio", "aiohttp", "aio_pika", "sqlalchemy", "alembic"}
    assert not loaded & {f"bridge.cli.{name}" for name in main.COMMANDS}


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


LISTS = [
    one
    for one in ALL
    for option in one.parser.params
    if "--json" in option.opts and "items" in (option.help or "")
]
"""Commands whose JSON is a list."""
SHORT_LISTS = {
    ("spool", "status"): "a file for each receiver process",
    ("doctor",): "a finding for each of its checks",
    ("suppressions", "keys"): "a key or two",
    ("subscribers", "list"): "one for each service",
}
"""Lists that are short by nature, and why."""


def test_all_lists_are_found() -> None:
    """By what `--json` says of itself, so that a new list needs no entry here."""
    paths = {command.path for command in LISTS}
    assert {one.path for one in ALL if one.path[-1:] in {("list",), ("history",)}} <= paths
    assert SHORT_LISTS.keys() < paths


@pytest.mark.parametrize("command", [one for one in LISTS if one.path not in SHORT_LISTS], ids=common_errors)
def test_every_list_can_be_read_in_parts_and_is_whole_unless_it_is_asked_for(command: Command) -> None:
    """The same two options everywhere, and no limit that nobody has named."""
    options = {option.name: option for option in command.parser.params}
    assert {"limit", "after"} <= options.keys()
    assert options["limit"].default is None


READS_ONLY = {
    ("webhook", "show"), ("contract", "check"), ("topology", "plan"), ("topology", "export"), ("spool", "status"), ("subscribers", "list"),
    ("suppressions", "check"), ("suppressions", "list"), ("suppressions", "history"), ("suppressions", "export"),
    ("db", "status"),
    ("dead", "list"), ("dead", "show"), ("quarantine", "list"), ("quarantine", "show"),
    ("tail",), ("status",), ("doctor",), ("config", "show"), ("policy", "dry-run"),
    ("suppressions", "allow", "list"), ("suppressions", "keys"),
}  # fmt: skip
WITHOUT_DRY_RUN = {
    ("receiver",): "a role, which runs until a signal",
    ("worker",): "a role, which runs until a signal",
    ("api",): "a role, which runs until a signal",
    (
        "suppressions",
        "allow",
        "add",
    ): "`allow remove` takes the rule away, and no entry of the list is changed",
    (
        "suppressions",
        "allow",
        "remove",
    ): "`allow add` makes the rule again, and no entry of the list is changed",
    ("suppressions", "hash"): "`suppressions keys` counts what it would change",
    ("db", "vacuum"): "it changes no row",
    ("db", "grant"): "it gives one user the rights that the API needs, and no more",
    ("dev",): "makes everything in a folder of its own",
    ("simulator",): "serves until a signal",
    ("simulate",): "posts events for a test, and nothing else",
    ("subscribers", "add"): "`subscribers remove` takes it away, and no other queue is touched",
    ("subscribers", "remove"): "it says what would be lost, and asks",
    ("contract", "export"): "it writes files into one folder, and nothing else",
    ("topology", "apply"): "`topology plan` shows what it would change",
    (
        "db",
        "upgrade",
    ): "`db status` shows both revisions, and its exit code says whether there is something to upgrade",
}
"""Commands that change something and have no dry run, and why."""


def test_every_command_that_changes_something_has_a_dry_run() -> None:
    """Whoever adds a command says here that it only reads, or why a dry run makes no sense, or gives it one."""
    commands = [one for one in ALL if not one.is_group]
    with_dry_run = {
        one.path for one in commands for option in one.parser.params if "--dry-run" in option.opts
    }
    assert {one.path for one in commands} == with_dry_run | READS_ONLY | WITHOUT_DRY_RUN.keys()
    assert not with_dry_run & (READS_ONLY | WITHOUT_DRY_RUN.keys())


def test_the_version_is_said() -> None:
    """In one line, as metrics have it."""
    outcome = CliRunner().invoke(main.app, ["--version"], env=dict.fromkeys(os.environ, ""))
    assert outcome.exit_code == 0
    assert re.fullmatch(r"bridge \d+\.\d+\.\d+\n", outcome.stdout)
