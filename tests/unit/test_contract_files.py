"""The contract as files: written for an installation, the same each time, compared by a command, read by AsyncAPI's parser."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from typer.testing import CliRunner

from bridge.broker.topology import Names
from bridge.broker.topology_plan import planned_topology
from bridge.cli import main
from bridge.contract import asyncapi, files, schemas
from bridge.contract.version import CONTRACT_VERSION
from bridge.settings.sections import Settings
from bridge.settings.sources import ENVIRONMENT_PREFIX
from bridge.settings.subscribers import Subscriber
from bridge.suppression.change import Change
from tests.contract import __main__ as gate
from tests.docs.tables import ROOT
from tests.support.npm_packages import NoNodeError, node_modules

if TYPE_CHECKING:
    from pathlib import Path

    from typer.testing import Result

RELEASED = ROOT / "docs" / "contract"
MAKEFILE = (ROOT / "Makefile").read_text()
PARSE = """
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';
const { Parser } = createRequire(process.argv[2] + '/')('@asyncapi/parser');
const { document, diagnostics } = await new Parser().parse(readFileSync(process.argv[3], 'utf8'));
const of = (found) => found.all().map((one) => one.id());
console.log(JSON.stringify({
  diagnostics: diagnostics.map(({ severity, code, path, message }) => ({ severity, code, path: path.join('.'), message })),
  version: document?.info().version(),
  channels: document && Object.fromEntries(document.channels().all().map((one) => [one.id(), {
    address: one.address(), messages: of(one.messages()), operations: of(one.operations()),
    binding: one.bindings().get('amqp')?.value(),
  }])),
}));
"""
NEWER_VERSION = "asyncapi-latest-version"
"""Said of each document that is not written in the newest version of AsyncAPI. 3.1 has nothing for AMQP, and fewer tools read it."""


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a developer has in the environment must not show."""
    for name in os.environ:
        if name.upper().startswith(ENVIRONMENT_PREFIX):
            monkeypatch.delenv(name)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main.app, ["contract", *arguments])


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_the_contract_is_written_into_a_folder(tmp_path: Path) -> None:
    """A document, schemas, examples; and a second time nothing changes."""
    folder = tmp_path / "made" / "here"
    first = run("export", str(folder))
    assert first.exit_code == 0, first.output
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.*")}
    assert found == files.contract_files(Names())
    assert {"asyncapi.json", "schemas/change.json", "examples/event-clicked.json"} <= found.keys()
    assert run("export", str(folder)).output == first.output
    assert {str(path.relative_to(folder)) for path in folder.rglob("*.*")} == found.keys()


def test_every_process_writes_the_same_bytes() -> None:
    """Whatever the order of its sets is."""
    program = (
        "import hashlib; from bridge.broker.topology import Names; from bridge.contract.files import contract_files;"
        "print(hashlib.sha256(repr(contract_files(Names())).encode()).hexdigest())"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", program], env=os.environ | {"PYTHONHASHSEED": seed}, check=True, capture_output=True
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(said) == 1


def test_an_installation_has_its_own_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The prefix is in front of exchanges and queues, and nowhere else."""
    monkeypatch.setenv("BRIDGE_RABBITMQ__PREFIX", "staging.")
    assert run("export", str(tmp_path)).exit_code == 0
    document = orjson.loads((tmp_path / "asyncapi.json").read_bytes())
    named = {
        binding.get("exchange", binding.get("queue"))["name"]
        for channel in document["channels"].values()
        for binding in channel["bindings"].values()
    }
    assert all(name.startswith("staging.") for name in named)
    assert {"staging.email.events", "staging.{queue}", "staging.{queue}.dead"} <= named
    example = orjson.loads((tmp_path / "examples" / "event-opened.json").read_bytes())
    assert (example["exchange"], example["routing_key"]) == ("staging.email.events", "opened")
    assert run("check", str(tmp_path)).exit_code == 0


def test_what_another_version_has_left_is_named_and_stays(tmp_path: Path) -> None:
    """No file is deleted that somebody may have put there."""
    (tmp_path / "schemas").mkdir()
    (tmp_path / "schemas" / "digest.json").write_text("{}")
    assert "schemas/digest.json is of another version" in run("export", str(tmp_path)).output
    said = orjson.loads(run("export", str(tmp_path), "--json").output)
    assert said["left"] == ["schemas/digest.json"]
    assert said["version"] == CONTRACT_VERSION


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    """Here it is a file."""
    (tmp_path / "file").write_text("")
    ended = run("export", str(tmp_path / "file"))
    assert ended.exit_code == 1
    assert "file cannot be written: " in ended.output


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "asyncapi.json cannot be read: No such file or directory"),
        ("{", "asyncapi.json is not of a contract: Invalid JSON: "),
        ("[]", "asyncapi.json is not of a contract: Input should be an object"),
        (
            "{}",
            "asyncapi.json is not of a contract: info: Field required; servers: Field required; channels: Field required; and 3 more",
        ),
        (
            '{"info": {"version": "new"}}',
            "asyncapi.json is not of a contract: info.version: String should match pattern",
        ),
    ],
)
def test_a_folder_without_a_contract_is_one_line(tmp_path: Path, content: str | None, said: str) -> None:
    """Not a comparison with nothing, which would always pass."""
    if content is not None:
        (tmp_path / "asyncapi.json").write_text(content)
    ended = run("check", str(tmp_path))
    assert ended.exit_code == 1
    assert said in ended.output


def test_a_schema_that_is_none_is_one_line(released: Path) -> None:
    """It names the file and the place."""
    edit(released / "schemas" / "event.json", '"type": "object"', '"type": 7')
    ended = run("check", str(released))
    assert ended.exit_code == 1
    assert "schemas/event.json is not of a contract: type" in ended.output


def test_the_code_keeps_the_contract_of_the_last_release() -> None:
    """`make check` asks the same."""
    ended = run("check", str(RELEASED))
    assert ended.exit_code == 0, ended.output


@pytest.fixture
def released(tmp_path: Path) -> Path:
    """A contract as it is exported today."""
    files.export_contract(tmp_path, Names())
    return tmp_path


def test_what_breaks_a_released_contract_ends_with_2_and_its_place(released: Path) -> None:
    """The released one had a field, a routing key and an exchange that ours has not."""
    edit(
        released / "schemas" / "change.json",
        '"actor": {',
        '"author": {\n      "type": "string"\n    },\n    "actor": {',
    )
    edit(released / "asyncapi.json", '"address": "opened"', '"address": "open"')
    edit(released / "asyncapi.json", '"name": "suppression.changes"', '"name": "list.changes"')
    ended = run("check", str(released))
    assert ended.exit_code == 2
    assert "schemas/change.json.author: it was removed\n" in ended.output
    assert "channels.event-opened.address: it was 'open', and is 'opened'\n" in ended.output
    assert (
        "bindings.amqp.exchange.name: it was 'list.changes', and is 'suppression.changes'\n" in ended.output
    )
    assert f"3 changes break contract {CONTRACT_VERSION}: they take version 2.0.0" in ended.output
    said = orjson.loads(run("check", str(released), "--json").stdout)
    assert (len(said["breaking"]), said["allowed"]) == (3, False)


def test_a_new_major_version_may_break(released: Path) -> None:
    """It lists what breaks, and is content."""
    edit(released / "asyncapi.json", f'"version": "{CONTRACT_VERSION}"', '"version": "0.9.0"')
    edit(released / "asyncapi.json", '"address": "opened"', '"address": "open"')
    ended = run("check", str(released))
    assert ended.exit_code == 0
    assert "channels.event-opened.address" in ended.output
    assert "breaks 0.9.0, as its new major version says" in ended.output


def test_make_check_fails_when_a_schema_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its target `contract` is this command; here the code itself loses a header."""
    assert (
        "contract: dependencies\n\t$(BIN)/bridge contract check docs/contract\n"
        in (ROOT / "Makefile").read_text()
    )
    broken = {name: dict(schema) for name, schema in schemas.schemas().items()}
    broken["event-headers"]["required"] = [
        name for name in broken["event-headers"]["required"] if name != "received-at"
    ]
    monkeypatch.setattr(schemas, "schemas", lambda: broken)
    ended = run("check", str(RELEASED))
    assert ended.exit_code == 2
    assert (
        "schemas/event-headers.json.received-at: it was always there, and need not be any more"
        in ended.output
    )


def test_make_check_fails_when_code_publishes_something_else(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A change of the list loses a field and gets another, and nobody has told the schemas."""
    assert gate.main() == 0
    documented = Change.document

    def other(change: Change) -> dict[str, Any]:
        document = documented(change)
        return {"list": "default"} | {name: value for name, value in document.items() if name != "actor"}

    monkeypatch.setattr(Change, "document", other)
    assert gate.main() == 1
    said = capsys.readouterr().err
    assert "contract: examples/change-added.json: change: 'actor' is a required property\n" in said
    assert "contract: examples/change-added.json: change: 'list' has no description\n" in said


def test_asyncapis_own_parser_reads_the_document(released: Path, tmp_path: Path) -> None:
    """Without an error or a warning; each channel has its messages, its operation and its binding of AMQP."""
    try:
        modules = node_modules()
    except NoNodeError as error:
        pytest.skip(str(error))
    program = tmp_path / "parse.mjs"
    program.write_text(PARSE)
    ended = subprocess.run(
        ["node", str(program), str(modules), str(released / "asyncapi.json")], check=True, capture_output=True, text=True
    )  # fmt: skip
    found: dict[str, Any] = orjson.loads(ended.stdout)
    assert [one for one in found["diagnostics"] if one["code"] != NEWER_VERSION] == []
    assert found["version"] == CONTRACT_VERSION
    ours = asyncapi.asyncapi(Names())["channels"]
    assert found["channels"].keys() == ours.keys()
    for name, channel in found["channels"].items():
        assert channel["address"] == ours[name]["address"]
        assert channel["messages"] == [*ours[name]["messages"]]
        assert len(channel["operations"]) == 1
        assert channel["binding"] | {"bindingVersion": "0.3.0"} == ours[name]["bindings"]["amqp"]


def test_the_document_is_complete_in_itself() -> None:
    """Each reference points to a part that is there."""
    document = asyncapi.asyncapi(Names())

    def references(node: Any) -> list[str]:
        if isinstance(node, dict):
            here = [node["$ref"]] if "$ref" in node else []
            return here + [found for inner in node.values() for found in references(inner)]
        return [found for inner in node for found in references(inner)] if isinstance(node, list) else []

    for reference in references(document):
        there: Any = document
        for step in reference.removeprefix("#/").split("/"):
            there = there[step]


def test_the_document_names_what_is_declared() -> None:
    """Each exchange with its kind, and each queue, is one of the planned topology; so are a subscriber's two."""
    settings = Settings(subscribers=(Subscriber(queue="crm", events=("opened",)),))
    planned = planned_topology(settings)
    kinds = {exchange.name: exchange.kind for exchange in planned.exchanges}
    queues = {queue.name.replace("crm", "{queue}") for queue in planned.queues}
    for channel in asyncapi.asyncapi(Names())["channels"].values():
        binding = channel["bindings"]["amqp"]
        if binding["is"] == "queue":
            assert binding["queue"]["name"] == channel["address"]
            assert binding["queue"]["name"] in queues
        else:
            assert kinds[binding["exchange"]["name"]] == binding["exchange"]["type"]
