"""`bridge webhook` against the simulator: what a person reads, what a program reads, and how it fails."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import typer
from typer.testing import CliRunner, Result

from bridge.cli import main, webhook
from bridge.development.simulator_api import serve_simulator
from bridge.development.simulator_faults import UNTIL_SWITCHED_OFF

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bridge.development.simulator import Simulator
    from tests.support.processes import Processes

TOKEN = "s3cret-api-token"
HOOK = "https://bridge.example.org/webhooks/msndr/a-token-of-ours"


@dataclass(frozen=True, slots=True)
class At:
    """A simulator of another process."""

    base_url: str


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with serve_simulator(token=TOKEN) as served:
        yield served


async def bridge(simulator: Simulator | At, *arguments: str, given: str = "", **variables: str) -> Result:
    """Run `bridge webhook ...` while the simulator serves."""
    app = typer.Typer()
    app.callback()(main.options)
    app.add_typer(webhook.app)
    environment = {
        "BRIDGE_PROVIDER__BASE_URL": simulator.base_url,
        "BRIDGE_PROVIDER__RESERVE_URL": "",
        "BRIDGE_PROVIDER__API_TOKEN": TOKEN,
        "BRIDGE_PROVIDER__ATTEMPTS": "2",
        "BRIDGE_PROVIDER__BACKOFF_MAX": "0.01",
        **variables,
    }
    return await asyncio.to_thread(
        CliRunner().invoke, app, ["webhook", *arguments], input=given, env=environment
    )


async def test_a_person_sets_shows_and_turns_off_the_webhook(simulator: Simulator) -> None:
    """Each command says in one line what is so now."""
    assert (await bridge(simulator, "show")).stdout.startswith("no webhook is set")
    assert (await bridge(simulator, "enable", HOOK)).stdout == f"on: {HOOK}\n"
    assert (await bridge(simulator, "show")).stdout == f"{HOOK}\n"
    assert (await bridge(simulator, "disable", HOOK)).stdout == f"off: {HOOK}\n"
    assert simulator.webhook_url is None


async def test_disable_without_a_url_turns_off_the_one_that_is_set(simulator: Simulator) -> None:
    """The provider is asked which one it is; with none set there is nothing to do, and that is no failure."""
    simulator.webhook_url = HOOK
    assert (await bridge(simulator, "disable")).stdout == f"off: {HOOK}\n"
    again = await bridge(simulator, "disable")
    assert (again.exit_code, again.stdout) == (0, "no webhook is set; there is nothing to turn off\n")


async def test_a_dry_run_says_what_would_change(simulator: Simulator) -> None:
    """The provider is asked which URL is set, and nothing else."""
    other = "https://bridge.example.org/webhooks/msndr/an-older-token"
    dry = "--dry-run"
    assert (await bridge(simulator, "enable", HOOK, dry)).stdout == f"would set {HOOK}; none is set now\n"
    assert (await bridge(simulator, "disable", dry)).stdout.startswith("no webhook is set")
    simulator.webhook_url = HOOK
    assert (await bridge(simulator, "enable", HOOK, dry)).stdout == f"{HOOK} is set already\n"
    assert (await bridge(simulator, "disable", dry)).stdout == f"would turn off {HOOK}\n"
    assert (await bridge(simulator, "disable", other, dry)).stdout == (
        "another URL is set, and would stay: https://bridge.example.org/webhooks/msndr/…\n"
    )
    changed = await bridge(simulator, "enable", other, dry)
    assert changed.stdout == f"would set {other}; now: https://bridge.example.org/webhooks/msndr/…\n"
    answers = [
        json.loads((await bridge(simulator, *arguments, dry, "--json")).stdout)
        for arguments in (["enable", other], ["disable"], ["disable", other])
    ]
    assert answers == [
        {"dry_run": True, "url": other, "now": HOOK},
        {"dry_run": True, "disabled": HOOK, "now": HOOK},
        {"dry_run": True, "disabled": None, "now": HOOK},
    ]
    assert simulator.webhook_url == HOOK
    assert {request.method for request in simulator.requests} == {"GET"}
    failed = await bridge(simulator, "enable", HOOK, dry, BRIDGE_PROVIDER__API_TOKEN="")
    assert (failed.exit_code, failed.stdout) == (1, "")


async def test_a_program_reads_json(simulator: Simulator) -> None:
    """With `--json` standard output is one document, null where a person reads a sentence."""
    answers = [
        json.loads((await bridge(simulator, *arguments, "--json")).stdout)
        for arguments in (["show"], ["enable", HOOK], ["show"], ["disable"], ["disable"])
    ]
    assert answers == [{"url": None}, {"url": HOOK}, {"url": HOOK}, {"disabled": HOOK}, {"disabled": None}]


@pytest.mark.parametrize("command", [["show"], ["enable", HOOK], ["disable"], ["disable", HOOK]])
async def test_a_provider_that_fails_is_one_line_and_exit_code_1(
    simulator: Simulator, command: list[str]
) -> None:
    """No traceback, nothing on standard output, and the line says what the provider answered."""
    simulator.faults.fail = UNTIL_SWITCHED_OFF
    result = await bridge(simulator, *command)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("bridge: ")
    assert "answered 500" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(("token", "said"), [("", "needs the provider's API token"), ("other", "is wrong")])
async def test_a_missing_or_wrong_token_names_the_variable(
    simulator: Simulator, token: str, said: str
) -> None:
    """Who has set no token, or a wrong one, reads which variable to set."""
    result = await bridge(simulator, "show", BRIDGE_PROVIDER__API_TOKEN=token)
    assert result.exit_code == 1
    assert said in result.stderr
    assert "BRIDGE_PROVIDER__API_TOKEN" in result.stderr


@pytest.mark.parametrize("command", ["enable", "disable"])
async def test_what_is_no_web_address_is_bad_usage(simulator: Simulator, command: str) -> None:
    """Exit code 2, one line, and the provider is not asked."""
    result = await bridge(simulator, command, "bridge.example.org/webhooks")
    assert result.exit_code == 2
    assert result.stderr == "bridge: a webhook's URL starts with http:// or https://\n"
    assert not simulator.requests


@pytest.mark.parametrize("command", ["show", "enable", "disable"])
async def test_help_has_an_example_and_the_variables(simulator: Simulator, command: str) -> None:
    """`--help` of each command shows a line to copy, and what must be set."""
    text = (await bridge(simulator, command, "--help")).stdout
    assert f"Example: bridge webhook {command}" in text
    assert "BRIDGE_PROVIDER__API_TOKEN" in text
    assert "BRIDGE_PROVIDER__BASE_URL" in text


PLACE = {
    "BRIDGE_RECEIVER__PUBLIC_URL": "https://bridge.example.org/in",
    "BRIDGE_RECEIVER__TOKENS": "the-first-of-tokens,the-second-of-tokens",
}
BUILT = "https://bridge.example.org/in/webhooks/msndr/the-first-of-tokens"


@pytest.mark.parametrize(
    "public_url",
    [
        "https://bridge.example.org/in",
        "https://bridge.example.org/in/webhooks/msndr/",
        "https://bridge.example.org/in/webhooks/msndr/an-older-token-1",
    ],
)
async def test_enable_without_a_url_takes_it_from_the_settings(simulator: Simulator, public_url: str) -> None:
    """No token stands in the arguments, which everybody on the machine sees, nor in what is printed."""
    result = await bridge(simulator, "enable", **PLACE | {"BRIDGE_RECEIVER__PUBLIC_URL": public_url})
    assert (result.exit_code, simulator.webhook_url) == (0, BUILT), result.output
    assert result.stdout == "on: https://bridge.example.org/in/webhooks/msndr/…\n"


async def test_enable_reads_a_url_from_standard_input(simulator: Simulator) -> None:
    """Where the settings are on another machine."""
    result = await bridge(simulator, "enable", "-", given=f"{HOOK}\n")
    assert (result.exit_code, simulator.webhook_url) == (0, HOOK), result.output
    assert result.stdout == "on: https://bridge.example.org/webhooks/msndr/…\n"


@pytest.mark.parametrize(
    ("arguments", "given", "variables"),
    [
        ([], "", {}),
        ([], "", {"BRIDGE_RECEIVER__TOKENS": "the-first-of-tokens"}),
        ([], "", {"BRIDGE_RECEIVER__PUBLIC_URL": "https://bridge.example.org"}),
        (["-"], "", PLACE),
    ],
)
async def test_enable_without_any_url_is_bad_usage(
    simulator: Simulator, arguments: list[str], given: str, variables: dict[str, str]
) -> None:
    """One line says what is missing; the provider is not asked."""
    result = await bridge(simulator, "enable", *arguments, given=given, **variables)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "BRIDGE_RECEIVER__PUBLIC_URL" in result.stderr
    assert result.stderr.count("\n") == 1
    assert not simulator.requests


async def test_a_404_is_said_where_no_webhook_is_found(simulator: Simulator) -> None:
    """It may also be a wrong base URL."""
    result = await bridge(simulator, "show", BRIDGE_PROVIDER__BASE_URL=simulator.base_url.removesuffix("/v1"))
    assert "its answer was 404" in result.stdout


async def test_a_simulated_provider_has_the_webhook_of_its_receiver_set(processes: Processes) -> None:
    """So that the doctor passes where there is no other provider; `receiver.public_url` goes before the option."""
    for settings, front in (
        ({}, "http://receiver:8080"),
        ({"public_url": "https://a.example"}, "https://a.example"),
    ):
        started = await processes.start(
            "simulator", "--port", "0", "--receiver", "http://receiver:8080",
            overrides={
                "receiver": {"tokens": ["a-token-of-the-webhook"], **settings},
                "provider": {"api_token": TOKEN},
                "logs": {"format": "json"},
            },
        )  # fmt: skip
        base_url = (await started.says("simulator.started"))["base_url"]
        seen = await bridge(At(base_url), "show")
        assert seen.stdout == f"{front}/webhooks/msndr/a-token-of-the-webhook\n"


async def test_disable_reads_a_url_from_standard_input(simulator: Simulator) -> None:
    """The token in it is as secret as it was; without a line there the provider is not asked."""
    simulator.webhook_url = HOOK
    result = await bridge(simulator, "disable", "-", given="")
    assert (result.exit_code, len(simulator.requests)) == (2, 0), result.output
    result = await bridge(simulator, "disable", "-", given=f"{HOOK}\n")
    assert result.exit_code == 0, result.output
    assert not simulator.webhook_url
