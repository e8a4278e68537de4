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
    """With the command, to try it by hand."""
    monkeypatch.setenv("DOCKER", "sh -c 'echo cannot connect to the daemon >&2; exit 3'")
    with pytest.raises(EngineError, match=r"ended with 3\ncannot connect to the daemon"):
        await Engine("a-project", {}).docker("ps")
