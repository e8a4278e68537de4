"""How Docker and Compose are called, and what is said when they are not there. No Docker is needed for it."""

from __future__ import annotations

import pytest

from tests.programs.stack.engine import Engine, EngineError


async def test_the_environment_says_what_compose_and_docker_are_called(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With arguments of their own; the project and its files come behind them."""
    monkeypatch.setenv("COMPOSE", "echo 'other compose'")
    monkeypatch.setenv("DOCKER", "echo other docker")
    engine = Engine("a-project", {})
    assert (await engine.docker("ps")).split() == ["other", "docker", "ps"]
    assert (await engine.compose("ps", files=[])).split() == ["other", "compose", "-p", "a-project", "ps"]


async def test_where_there_is_no_docker_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is made that would have to be taken away again."""
    monkeypatch.setenv("DOCKER", "no-such-docker")
    with pytest.raises(EngineError, match=r"no-such-docker: .*COMPOSE and DOCKER in the environment"):
        await Engine("a-project", {}).reach()


async def test_a_command_that_fails_leaves_its_last_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the command, to try it by hand. What it has found may be in its output, beside warnings in its errors."""
    monkeypatch.setenv("DOCKER", "sh -c 'echo a warning >&2; echo no worker consumes; exit 3'")
    with pytest.raises(EngineError, match=r"ended with 3\nno worker consumes\na warning"):
        await Engine("a-project", {}).docker("ps")


async def test_an_exit_code_may_be_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """As that of a command that has found something: what it prints says what."""
    monkeypatch.setenv("COMPOSE", "sh -c 'echo not well; exit 1'")
    engine = Engine("a-project", {})
    assert await engine.compose("run", files=[], codes=(0, 1)) == "not well\n"
    with pytest.raises(EngineError, match="ended with 1"):
        await engine.compose("run", files=[])


async def test_an_engine_that_a_command_starts_does_not_live_in_our_folder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """That ends with us, and the engine serves others, too."""
    monkeypatch.setenv("TMPDIR", "/of-this-run")
    monkeypatch.setenv("DOCKER", "env")
    assert "TMPDIR" not in await Engine("a-project", {}).docker()
