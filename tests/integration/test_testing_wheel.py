"""What a team does with `bridge[testing]`: the tests of docs/testing.md, in a folder and an environment with nothing else."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.support.clean_environment import TREE, build_wheel, clean_environment

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

pytestmark = pytest.mark.quick

PAGE = (TREE / "docs" / "testing.md").read_text("utf-8")
FILES = ("openings.py", "test_openings.py", "test_crm.py")


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of an environment that has the wheel, what it requires with the extra, and nothing else."""
    folder = tmp_path_factory.mktemp("testing")
    (folder / "wheel").mkdir()
    return clean_environment(folder / "environment", build_wheel(folder / "wheel"), extra="testing")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With the page's programs in it, as they stand there, and the consumer that one of them tests."""
    programs = re.findall(r"`(\w+\.py)`[^`]*```python\n(.*?)```", PAGE, re.DOTALL)
    assert [name for name, _ in programs] == list(FILES)
    for name, program in programs:
        (tmp_path / name).write_text(program, "utf-8")
    shutil.copy(TREE / "docs" / "consumers" / "python_aio_pika.py", tmp_path / "crm.py")
    return tmp_path


def run(python: Path, folder: Path, *arguments: str) -> str:
    """What a program of the environment prints in the folder, whatever becomes of it; nothing of ours is set."""
    done = subprocess.run(
        [python, *arguments],
        cwd=folder, env={"PATH": os.environ["PATH"]}, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    return done.stdout + done.stderr


def counted(printed: str) -> Sequence[tuple[str, str]]:
    """The numbers in pytest's last line."""
    return re.findall(r"(\d+) (passed|failed|skipped|errors?)", printed.splitlines()[-1])


def test_the_pages_tests_pass_without_a_broker(python: Path, folder: Path) -> None:
    """Pytest finds the plugin by itself; the one test that wants a broker says what it lacks."""
    printed = run(python, folder, "-m", "pytest", "-rs", "-p", "no:cacheprovider")
    assert counted(printed) == [("4", "passed"), ("1", "skipped")], printed
    assert "no broker for tests: give --bridge-broker-url" in printed


def test_and_with_a_broker(python: Path, folder: Path, amqp_url: str) -> None:
    """The last one goes through a real queue, and what is sent to no queue is an error that says so."""
    (folder / "test_nowhere.py").write_text(
        "def test_nowhere(bridge_event, publish_event):\n    publish_event(bridge_event(), queue='nowhere')\n"
    )
    printed = run(python, folder, "-m", "pytest", "-p", "no:cacheprovider", "--bridge-broker-url", amqp_url)
    assert counted(printed) == [("1", "failed"), ("5", "passed")], printed
    assert "queue 'nowhere' has not got <email.events/delivered" in printed
    assert "declare the queue" in printed


def test_the_copied_consumer_without_its_memory_is_caught(python: Path, folder: Path) -> None:
    """As the page says. The failure shows the Recorder's error, and no other that it would have come of."""
    crm = folder / "crm.py"
    crm.write_text(crm.read_text("utf-8").replace(" PRIMARY KEY", ""), "utf-8")
    printed = run(python, folder, "-m", "pytest", "-p", "no:cacheprovider", "test_crm.py")
    assert "had its effect 2 times" in printed, printed
    assert "During handling" not in printed


def test_it_is_the_wheels_and_has_types(python: Path, folder: Path) -> None:
    """Nothing of this checkout is imported there, and `py.typed` lies beside what is."""
    said = run(python, folder, "-c", "import bridge.testing; print(bridge.testing.__file__)")
    assert str(TREE) not in said
    assert (python.parents[1].joinpath(said.strip()).parents[1] / "py.typed").exists()


def test_it_has_the_pages_of_the_console(python: Path, folder: Path) -> None:
    """Every template, style, script and licence of the checkout lies in the wheel, of which the image is made, too."""
    console = TREE / "bridge" / "console"
    said = run(
        python,
        folder,
        "-c",
        "import pathlib, bridge.console.application as a; from bridge.console.static_files import StaticFiles;"
        "root = pathlib.Path(a.__file__).parent; StaticFiles().url('console.css');"
        "print(*sorted(str(p.relative_to(root)) for f in ('static', 'templates') for p in (root / f).rglob('*.*')))",
    )
    ours = [path for name in ("static", "templates") for path in (console / name).rglob("*.*")]
    assert said.split() == sorted(str(path.relative_to(console)) for path in ours)
