"""What the pages say of things that a program can look up: links, commands, targets, settings, metrics, log actions."""

from __future__ import annotations

import re
import shlex
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from bridge.settings import sections
from bridge.settings.sources import CONFIG_VARIABLE, SECRETS_VARIABLE
from bridge.settings.subscribers import Subscriber
from bridge.testing import plugin
from tests.docs.tables import ROOT, UNKNOWN, rows_of
from tests.support.manual import every_command

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_FENCED: Final = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_INLINE: Final = re.compile(r"`([^`]+)`")
_LINK: Final = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_SECTIONS: Final = "|".join(sections.Settings.model_fields)
_VARIABLES: Final = {
    CONFIG_VARIABLE,
    SECRETS_VARIABLE,
    "BRIDGE_RABBITMQ__URL",
    "BRIDGE_SUBSCRIBERS",
} | {knob.variable for knob in sections.setting_names()}

_OF_THE_PLUGIN: Final = {plugin.INI, plugin.bridge_event.__name__}
"""Names of `bridge.testing` that look like metrics."""


def pages() -> list[Path]:
    top = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")]
    return [*top, *sorted((ROOT / "docs").rglob("*.md"))]


def problems() -> list[str]:
    """One line each: the page, and what is wrong in it."""
    return [
        f"{page.relative_to(ROOT)}: {problem}"
        for page in pages()
        for problem in of_page(page, page.read_text())
    ]


def of_page(page: Path, text: str) -> Iterator[str]:
    """What is wrong in this text, where it is this page."""
    prose = _FENCED.sub("", text)
    for target in _LINK.findall(_INLINE.sub("", prose)):
        yield from _link(page, text, target)
    for kind, block in _FENCED.findall(text):
        if kind in {"sh", "console"}:
            for line in _commands_of(block, prompted=kind == "console"):
                yield from _command_line(line)
    for span in _INLINE.findall(prose):
        yield from _span(page, " ".join(span.split()))
    yield from (f"{row[0]}: what stands at {UNKNOWN} is to be written" for row in rows_of(text) if _open(row))


def _open(row: list[str]) -> bool:
    return any(cell == UNKNOWN or cell.endswith(f" {UNKNOWN}") for cell in row)


def _link(page: Path, text: str, target: str) -> Iterator[str]:
    if re.match(r"[a-z]+:", target):
        return
    path, _, anchor = target.partition("#")
    file = (page.parent / path).resolve() if path else page
    if file != page and not file.exists():
        yield f"the link {target} points to no file"
    elif anchor and anchor not in _anchors(text if file == page else file.read_text()):
        yield f"the link {target} points to no heading"


@cache
def _anchors(text: str) -> frozenset[str]:
    """As GitHub makes them of headings."""
    heads = re.findall(r"^#+ (.+)$", _FENCED.sub("", text), re.MULTILINE)
    return frozenset(re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads)


def _commands_of(block: str, *, prompted: bool) -> list[str]:
    lines = block.replace("\\\n", " ").splitlines()
    return [line.removeprefix("$ ") for line in lines if line.startswith("$ ") or not prompted]


def _command_line(line: str) -> Iterator[str]:
    """Of a shell's line, what is a command of the bridge or a target of make."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="();|&<>\n")
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, ";"]:
        if not set(word) <= set(";|&()"):
            words.append(word)
            continue
        yield from _words([one for one in words if not re.match(r"[A-Z_]+=", one)])
        words = []


def _words(words: list[str]) -> Iterator[str]:
    if not words:
        return
    if words[:2] == ["docker", "compose"] and "run" in words and "bridge" in words:
        words = words[words.index("bridge") :] if "--entrypoint" not in words else [""]
    if words[0] == "bridge" or words[0].endswith("/bridge"):
        yield from _of_bridge(words[1:])
    elif words[0] == "make":
        targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        named = {word for word in words[1:] if re.fullmatch(r"[a-z][a-z0-9-]*", word)}
        yield from (f"there is no target for `make {one}`" for one in named - targets)


def _of_bridge(words: list[str]) -> Iterator[str]:
    """A command that is not there, or an option that it does not have."""
    members: dict[tuple[str, ...], Any] = {one.path: one for one in every_command()}
    path: tuple[str, ...] = ()
    rest = iter(words)
    for word in rest:
        command = members[path]
        if word.startswith("-") and word != "-":
            name, given, _ = word.partition("=")
            options = {
                spelt: one for one in command.parser.params for spelt in [*one.opts, *one.secondary_opts]
            }
            if name not in {*options, "--help", "-h"}:
                yield f"`{' '.join(('bridge', *path))}` has no option {name}"
            elif name in options and not options[name].is_flag and not given:
                next(rest, None)
        elif word.isupper():  # stands for any
            return
        elif command.is_group:
            path = (*path, word)
            if path not in members:
                yield f"there is no command `{' '.join(('bridge', *path))}`"
                return


def _span(page: Path, span: str) -> Iterator[str]:
    """What stands between backticks in a sentence."""
    if re.match(r"(bridge|make) [a-z-]", span):
        yield from _command_line(span)
    elif span.startswith("BRIDGE_") and re.fullmatch(r"[A-Z_]+(=.*)?", span):
        name = span.partition("=")[0]
        if name.removesuffix("_FILE") not in _VARIABLES and not name.endswith("_"):
            yield f"no variable is called {name}"
    elif re.fullmatch(rf"({_SECTIONS}|broker|process|receiver|relay|topology|tokens)\.[a-z_]+", span):
        said = f'"{span}"', f'f"{span.partition(".")[0]}.{{'  # some actions end in an outcome
        if (
            page.name != "CHANGELOG.md"
            and span not in _settings()
            and not any(one in _sources() for one in said)
        ):
            yield f"`{span}` is no setting, no log action and no name in RabbitMQ"
    elif re.fullmatch(r"[\w.]+(/[\w.]+)*/(\w+\.(py|toml|yml|sql|md))?", span):
        if "NAME" not in span and not any((place / span).exists() for place in (ROOT, ROOT / "bridge")):
            yield f"there is no {span}"
    elif span in _OF_THE_PLUGIN:
        return
    elif re.fullmatch(r"bridge_[a-z_]+", span) and page.name != "CHANGELOG.md" and span not in _metrics():
        yield f"no metric is called {span}"


@cache
def _sources() -> str:
    """All code, and the names of what stands in RabbitMQ."""
    names = [row[0].replace("`", '"') for row in rows_of(_reference("topology"))]
    return "\n".join([*(path.read_text() for path in sorted((ROOT / "bridge").rglob("*.py"))), *names])


@cache
def _settings() -> frozenset[str]:
    of_subscribers = {f"subscribers.{name}" for name in Subscriber.model_fields}
    return frozenset(knob.key for knob in sections.setting_names()) | of_subscribers


@cache
def _metrics() -> frozenset[str]:
    return frozenset(row[0].strip("`") for row in rows_of(_reference("metrics")))


def _reference(name: str) -> str:
    return (ROOT / "docs" / "reference" / f"{name}.md").read_text()
