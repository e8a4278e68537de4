"""`bridge config show`, and how every command answers settings that cannot be used."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from bridge.cli import main
from bridge.settings import sections
from bridge.settings.sources import ENVIRONMENT_PREFIX
from tests.support.commands import bridge

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.quick

SECRET = "an-uncommon-secret"
SECRETS = {
    "BRIDGE_RABBITMQ__URLS": f"amqp://guest:{SECRET}@127.0.0.1:1/,amqp://guest:{SECRET}@127.0.0.2:1/",
    "BRIDGE_RECEIVER__TOKENS": f"{SECRET}-1,{SECRET}-2",
    "BRIDGE_PROVIDER__API_TOKEN": SECRET,
    "BRIDGE_SUPPRESSION__DATABASE_URL": f"postgresql+asyncpg://bridge:{SECRET}@127.0.0.1/list",
}
SUBSCRIBERS = '[{"queue": "billing", "events": ["delivered", "complained"]}]'


@pytest.fixture(autouse=True)
def no_other_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a developer has in the environment must not show."""
    for name in os.environ:
        if name.upper().startswith(ENVIRONMENT_PREFIX):
            monkeypatch.delenv(name)


def test_every_knob_is_shown_in_full_and_no_secret_is() -> None:
    """A person finds each setting, and the variable that sets it, ready to be copied."""
    shown = show({**SECRETS, "BRIDGE_SUBSCRIBERS": SUBSCRIBERS})
    words = shown.split()
    for knob in sections.setting_names():
        assert knob.key in words
        assert knob.variable in words
    assert "(hidden)" in words
    assert "billing" in words
    assert "uncommon" not in shown


def test_a_program_gets_every_knob_and_no_secret() -> None:
    """JSON by section and name, with values of their own types."""
    shown = show({**SECRETS, "BRIDGE_SUBSCRIBERS": SUBSCRIBERS, "BRIDGE_RECEIVER__PORT": "9999"}, "--json")
    document = json.loads(shown)
    for knob in sections.setting_names():
        section, _, name = knob.key.partition(".")
        assert name in document[section]
    assert document["receiver"]["port"] == 9999
    assert document["receiver"]["tokens"] == ["(hidden)", "(hidden)"]
    assert document["rabbitmq"]["urls"] == ["(hidden)", "(hidden)"]
    assert document["provider"]["api_token"] == "(hidden)"
    assert document["suppression"]["database_url"] == "(hidden)"
    [billing] = document["subscribers"]
    assert (billing["queue"], billing["events"]) == ("billing", ["delivered", "complained"])
    assert (billing["changes"], billing["max_length"]) == (False, None)
    assert "uncommon" not in shown


def test_a_secret_that_is_not_set_is_not_shown_as_if_it_were() -> None:
    """`(hidden)` says that there is one."""
    document = json.loads(show({}, "--json"))
    assert document["provider"]["api_token"] is None
    assert document["receiver"]["tokens"] == []


@pytest.mark.parametrize("command", [("config", "show"), ("topology", "plan"), ("receiver",), ("worker",)])
def test_settings_that_cannot_be_used_are_one_line_and_exit_code_2(command: tuple[str, ...]) -> None:
    """Whatever the command: the key, what is wrong, nothing of the secret, no traceback."""
    environment = {"BRIDGE_PROVIDER__API_TOKEN": f"{SECRET} with spaces"}
    outcome = CliRunner().invoke(main.app, [*command], env=environment)
    assert (outcome.exit_code, outcome.stdout) == (2, "")
    [line] = outcome.stderr.splitlines()
    assert (
        line == "bridge: provider.api_token: an API token of the provider is printable ASCII without spaces"
    )


async def test_a_receiver_without_tokens_ends_with_one_line(tmp_path: Path) -> None:
    """Without one, anybody or nobody could post: it does not start, and says which setting is missing."""
    refused = await bridge("receiver", directory=tmp_path, BRIDGE_RABBITMQ__URL="amqp://127.0.0.1:1/")
    assert (refused.code, refused.stdout) == (2, "")
    [line] = refused.stderr.splitlines()
    said = json.loads(line)
    assert said["action"] == "process.cannot_run"
    assert said["message"].startswith("receiver.tokens: at least one is needed")
    assert "BRIDGE_RECEIVER__TOKENS" in said["message"]


def show(environment: dict[str, str], *arguments: str) -> str:
    outcome = CliRunner().invoke(main.app, ["config", "show", *arguments], env=environment)
    assert (outcome.exit_code, outcome.stderr) == (0, "")
    return outcome.stdout
