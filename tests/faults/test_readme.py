"""The five minutes of the README, and the ten of docs/consume.md, as they are written."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from yarl import URL

from tests.support.leftovers import end_processes_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.processes import Process, Processes

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(sh|text|json|python)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
NODE_PATIENCE = 180
"""Seconds for a RabbitMQ node to start, beside other tests."""
COLOURS = re.compile(r"\x1b\[[\d;]*m")
PLACES = re.compile(r"^(WEBHOOK|API)=\S+ ?")
"""Where the page's stack is reached; the test's has other ports."""
LEFT_OUT = "…"
"""A line that stands for any number of lines."""


@pytest.fixture(autouse=True)
def _nothing_outlives_a_test(tmp_path: Path) -> Iterator[None]:
    yield
    end_processes_of(tmp_path / ".dev")


class Step(NamedTuple):
    commands: str
    output: str
    terminal: str
    """What the first terminal shows meanwhile."""


def steps_of(text: str) -> Iterator[Step]:
    """Each block of commands, with the output below it, and the first terminal's where there is a second one."""
    blocks = [match.groups() for match in BLOCK.finditer(text)]
    for at, (kind, commands) in enumerate(blocks):
        if kind == "sh":
            shown = [output for kind, output in blocks[at + 1 : at + 3] if kind != "sh"]
            if len(shown) == 2 and blocks[at + 1][0] == "sh":
                shown = []
            yield Step(commands, *[*shown, "", ""][:2])


async def test_the_five_minutes_are_as_the_readme_has_them(processes: Processes, tmp_path: Path) -> None:
    """Each command runs as written, beside a real `bridge dev`, and shows what the page shows, but for times."""
    _, _, rest = (ROOT / "README.md").read_text().partition("## Five minutes")
    start, *steps = steps_of(rest.partition("\n## ")[0])
    assert (start.commands, len(steps)) == ("make run\n", 6)
    dev = await _dev(processes, tmp_path)
    webhook = (await dev.prints("webhook", patience=NODE_PATIENCE)).split()[1]
    api = (await dev.prints("API  ")).split()[1]
    await dev.prints("Ctrl-C")
    simulator = (await dev.prints("simulator  ")).split()[1]
    shown = start.output
    for usual, url in (("8080", webhook), ("8081", api), ("8082", simulator)):
        shown = shown.replace(usual, str(URL(url).port))
    assert _masked(shown).fullmatch("\n".join(dev.printed))
    for step in steps:
        assert _masked(step.output).fullmatch(await _terminal(step.commands, tmp_path, webhook, api))
        for line in step.terminal.splitlines():
            await dev.prints(line)
    await _consumes(tmp_path, webhook, api)
    dev.send(signal.SIGINT)
    assert await dev.ended() == 0


async def _consumes(folder: Path, webhook: str, api: str) -> None:
    """The ten minutes of docs/consume.md beside the same stack, with the event that is posted there."""
    _, _, rest = (ROOT / "docs" / "consume.md").read_text().partition("## Ten minutes")
    start, adding, running, posting = steps_of(rest.partition("\n## ")[0])
    assert start.commands == "make run\n"
    (folder / "docs").symlink_to(ROOT / "docs")
    assert _masked(adding.output).fullmatch(await _terminal(adding.commands, folder, webhook, api))
    *prepared, program = running.commands.splitlines()
    consumer = await asyncio.create_subprocess_exec(
        "bash", "-c", "\n".join([*prepared, f"exec {program}"]), cwd=folder
    )
    try:
        expected = _masked(posting.output)
        async with asyncio.timeout(NODE_PATIENCE):
            while True:  # when it has started, nothing says: a repeat has the same id
                shown = await _terminal(posting.commands, folder, webhook, api)
                if expected.fullmatch(shown):
                    break
                assert shown.startswith('{"status":"accepted"')
        consumer.send_signal(signal.SIGTERM)
        assert await consumer.wait() == 0
    finally:
        if consumer.returncode is None:
            consumer.kill()
            await consumer.wait()


async def _dev(processes: Processes, folder: Path) -> Process:
    """What `make run` runs, on a port of its own, where the page's commands find it."""
    programs = folder / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name, command in (("bridge", f"{sys.executable} -m bridge"), ("python", sys.executable)):
        (programs / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        (programs / name).chmod(0o755)
    return await processes.start(
        "dev", "--directory", str(folder / ".dev"), "--port", "0", "--api-port", "0",
        overrides={"receiver": {"confirm_wait": 10}},
    )  # fmt: skip


async def _terminal(commands: str, folder: Path, webhook: str, api: str = "") -> str:
    """What these commands write to a terminal of 120 columns without colours, in a shell of the page's."""
    lines = [PLACES.sub("", line) for line in commands.splitlines()]
    master, terminal = os.openpty()
    process = await asyncio.create_subprocess_exec(
        "bash", "-c", "\n".join(lines), cwd=folder,
        stdin=asyncio.subprocess.DEVNULL, stdout=terminal, stderr=terminal,
        env={
            name: value for name, value in os.environ.items() if not name.startswith("BRIDGE_")
        } | {"WEBHOOK": webhook, "API": api, "TERM": "dumb", "COLUMNS": "120"},
    )  # fmt: skip
    os.close(terminal)
    try:
        return await asyncio.to_thread(_everything, master)
    finally:
        await process.wait()
        os.close(master)


def _everything(master: int) -> str:
    chunks = []
    while True:
        try:
            chunk = os.read(master, 65536)
        except OSError:  # how a terminal says that nobody writes to it any more
            break
        if not chunk:
            break
        chunks.append(chunk)
    return COLOURS.sub("", b"".join(chunks).decode()).replace("\r", "")


def _masked(expected: str) -> re.Pattern[str]:
    """The output as a pattern: any date, time and version, and any lines where the page leaves some out."""
    lines = []
    for line in expected.splitlines():
        if line == LEFT_OUT:
            lines.append(r"(?:.*\n)*?")
            continue
        pattern = re.escape(line)
        pattern = re.sub(r"(Dead\\ letters.*)", r"\1\\s*", pattern)  # a table's cells are filled up
        pattern = re.sub(r"(Date|Server):.*", r"\1:.*", pattern)
        pattern = re.sub(r"20\d\d\\-\d\d\\-\d\d\\ \d\d:\d\d:\d\d", r"[\\d-]{10} [\\d:]{8}", pattern)
        pattern = re.sub(r"20\d\d\\-\d\d\\-\d\dT\d\d:\d\d:\d\dZ", r"[\\dT:Z-]{20}", pattern)
        lines.append(pattern + r"\n*")
    return re.compile("".join(lines))
