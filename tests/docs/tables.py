"""The tables of docs/reference/ that are made from code; what code does not know stays as the page has it."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from bridge.broker import topology, topology_plan
from bridge.settings import sections
from bridge.settings.section import Section
from bridge.settings.subscribers import Subscriber
from bridge.telemetry.metric_definitions import MetricDefinitions
from bridge.telemetry.multiprocess import SharedMetrics
from tests.support.manual import every_command

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tests.support.manual import Command

ROOT: Final = Path(__file__).parents[2]
UNKNOWN: Final = "?"
"""A cell that a person has to fill in: `make docs-check` does not accept it."""

_NOT_SHOWN: Final = {"--help"}
_EXAMPLE_OF_SUBSCRIBER: Final = Subscriber(
    queue="crm", events=("opened", "clicked"), changes=True, max_length=1_000_000
)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [[f" {cell} ".replace("  ", " ") for cell in row] for row in [heads, *rows]]
    return "\n".join(f"|{'|'.join(cells)}|" for cells in [lines[0], ["---"] * len(heads), *lines[1:]])


def rows_of(page: str) -> list[list[str]]:
    """The cells of all tables of a page, without their heads."""
    lines = [line for line in page.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("| "))] for line in lines]


def settings(_: str) -> str:
    """A table for each section: defaults and bounds from the classes, meanings from config/bridge.toml."""
    meanings = _meanings((ROOT / "config" / "bridge.toml").read_text())
    parts = []
    for section, field in sections.Settings.model_fields.items():
        model = Subscriber if section == "subscribers" else field.annotation
        if not (isinstance(model, type) and issubclass(model, Section)):
            raise TypeError(f"{section} is no section")
        head = "[[subscribers]]" if section == "subscribers" else section
        kinds = model.model_json_schema()["properties"]
        rows = [
            (
                f"`{section}.{name}`",
                _default(one.get_default()),
                _allowed(kinds[name]),
                meanings[section, name],
            )
            for name, one in model.model_fields.items()
        ]
        parts.append(f"### {head}\n\n{table(('setting', 'default', 'takes', 'meaning'), rows)}")
    return "\n\n".join(parts)


def _meanings(text: str) -> dict[tuple[str, str], str]:
    """(section, name) -> the comment in front of it; settings that stand together share one."""
    found = {}
    section = ""
    comment: list[str] = []
    for line in text.splitlines():
        if head := re.match(r"(?:##)?\[+(\w+)\]+", line):
            section = head[1]
        elif key := re.match(r"##?(\w+) = ", line):
            found[section, key[1]] = _line(" ".join(comment)).replace("*", "\\*")
        elif line.startswith("# "):
            comment.append(line[2:])
        else:
            comment.clear()
    return found


def _default(value: Any) -> str:
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if isinstance(value, tuple):
        return ", ".join(map(_default, value)) or "none"
    if value is None or value == "":
        return "none"
    if isinstance(value, bool):
        return f"`{value}`".lower()
    return f"`{value}`" if str(value) and str(value) != "PydanticUndefined" else "must be given"


def _allowed(schema: Mapping[str, Any]) -> str:
    """What JSON Schema says of it, in words."""
    if schema.get("type") == "array":
        return f"list: {_allowed(schema['items'])}"
    alternatives = [one for one in schema.get("anyOf", [schema]) if one.get("type") != "null"]
    kind = alternatives[0]
    if "enum" in kind:
        return ", ".join(f"`{value}`" for value in kind["enum"])
    if kind.get("format") == "password":
        return "text, a secret"
    least, most = kind.get("minimum"), kind.get("maximum")
    bounds = ["above 0" if least is None and "exclusiveMinimum" in kind else ""]
    bounds += [f"{word} {bound:,}" for word, bound in (("from", least), ("to", most)) if bound is not None]
    names = {"integer": "whole number", "number": "number", "boolean": "`true`, `false`", "string": "text"}
    return " ".join(filter(None, [names[kind["type"]], *bounds]))


def commands(_: str) -> str:
    """What each does, then each with all that its `--help` says."""
    every = [command for command in every_command() if command.path]
    leaves = [command for command in every if not command.is_group]
    usual = set(_exit_codes(every_command()[0]))
    overview = table(
        ("command", "what it does"),
        [(f"[`{_called(one)}`](#{_called(one).replace(' ', '-')})", _summary(one)) for one in leaves],
    )
    return "\n\n".join([overview, *(_command(one, usual) for one in leaves)])


def _called(command: Command) -> str:
    return " ".join(("bridge", *command.path))


def _summary(command: Command) -> str:
    return _line(command.parser.help.partition("\n\n")[0])


def _command(command: Command, usual: set[str]) -> str:
    context = command.parser.make_context(command.path[-1], [], resilient_parsing=True)
    usage = " ".join([_called(command), *command.parser.collect_usage_pieces(context)])
    ends = command.parser.epilog.split("\n\n")
    paragraphs = [_line(one) for one in command.parser.help.split("\n\n")]
    options = [
        (
            ", ".join(f"`{name}`" for name in [*one.opts, *one.secondary_opts])
            if one.opts[0].startswith("-")
            else f"`{one.metavar or one.name.upper()}`",
            _preset(one.default),
            _line(one.help or ""),
        )
        for one in command.parser.params
        if not _NOT_SHOWN & set(one.opts)
    ]
    codes = [one for one in _exit_codes(command) if one not in usual]
    return "\n\n".join(
        [
            f"### {_called(command)}",
            *paragraphs,
            f"```text\n{usage}\n{ends[0].partition('Example: ')[2]}\n```",
            *([table(("option", "default", "meaning"), options)] if options else []),
            f"Variables: {ends[1].partition(': ')[2].replace('BRIDGE_', '`BRIDGE_').replace(',', '`,')[:-1]}`."
            + (f" Exit codes of its own: {'; '.join(codes)}." if codes else ""),
        ]
    )


def _line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _preset(value: Any) -> str:
    if value is None or isinstance(value, bool) or callable(value):
        return ""
    return f"`{value}`"


def _exit_codes(command: Command) -> list[str]:
    codes: str = command.parser.epilog.rpartition("Exit codes: ")[2]
    return codes.rstrip(".").split("; ")


def metrics(page: str) -> str:
    """Names, types and labels from the code; roles, the labels' values and meanings from the page."""
    known = {row[0]: row for row in rows_of(page)}
    everything = MetricDefinitions(CollectorRegistry())
    with TemporaryDirectory() as folder:
        made = [
            *(getattr(everything, name) for name in everything.names()),
            SharedMetrics(Path(folder)).restarts,
        ]
    rows = []
    for one in made:
        name = f"`{one._name}_total`" if one._type == "counter" else f"`{one._name}`"
        labels = ", ".join(f"`{label}`" for label in one._labelnames)
        _, _, role, values, says = known.get(name, ["", "", UNKNOWN, labels, one._documentation])
        if set(re.findall(r"`([a-z]+)`", values)) != set(one._labelnames):
            values = f"{labels} {UNKNOWN}"
        rows.append((name, one._type, role, values, says))
    return table(("metric", "type", "role", "labels", "says"), rows)


def exchanges_and_queues(page: str) -> str:
    """Kinds, arguments and bindings as planned with the default settings; what each is for from the page."""
    purposes = {(row[0], row[1]): row[-1] for row in rows_of(page)}
    defaults = sections.Settings.model_construct()
    planned = topology_plan.plan(
        defaults.rabbitmq,
        suppressing=defaults.suppression.used_events,
        retry_delays=defaults.worker.retry_delays,
        subscribers=[_EXAMPLE_OF_SUBSCRIBER],
    )
    rows = [(f"`{one.name}`", f"{one.kind} exchange", "", _arguments(one)) for one in planned.exchanges]
    for queue in planned.queues:
        kind = queue.arguments["x-queue-type"]
        keys: dict[str, list[str]] = {}
        for one in planned.bindings:
            if one.queue == queue.name:
                keys.setdefault(one.exchange, []).extend([f"`{one.key}`"] if one.key else [])
        bound = "; ".join(
            f"`{exchange}`{': ' if its_keys else ''}{', '.join(its_keys)}"
            for exchange, its_keys in keys.items()
        )
        rows.append(
            (f"`{queue.name}`", "stream" if kind == "stream" else f"{kind} queue", bound, _arguments(queue))
        )
    return table(
        ("name", "kind", "bound to", "arguments", "for"),
        [(*row, purposes.get(row[:2], UNKNOWN)) for row in rows],
    )


def _arguments(declared: topology.Exchange | topology.Queue) -> str:
    return ", ".join(
        f"`{name}={value}`" for name, value in declared.arguments.items() if name != "x-queue-type"
    )


def layers(_: str) -> str:
    """From the top down, as import-linter's contract has them; what each package is for from its first line."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (found,) = (
        one["layers"] for one in project["tool"]["importlinter"]["contracts"] if one["type"] == "layers"
    )
    rows = [
        (str(len(found) - at), f"`{package}`", _line(_purpose(package)))
        for at, layer in enumerate(found)
        for package in layer.split(" | ")
    ]
    return table(("layer", "package", "what it is for"), rows)


def _purpose(package: str) -> str:
    place = ROOT / "bridge" / package
    module = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
    docstring = ast.get_docstring(ast.parse(module.read_text())) or UNKNOWN
    return docstring.partition("\n\n")[0]
