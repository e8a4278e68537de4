"""Docker and Compose, as the commands that this machine has them under."""

from __future__ import annotations

import asyncio
import os
import shlex
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

ROOT: Final = Path(__file__).parents[3]
COMPOSE_FILE: Final = ROOT / "docker-compose.yml"
OVERRIDE_FILE: Final = Path(__file__).with_name("compose.yml")

_PATIENCE_SECONDS: Final = 120.0
_LAST_LINES: Final = 15
"""Of its output, and of its errors; what it has to say may be in either."""
SUCCESS: Final = (0,)


class EngineError(RuntimeError):
    """A command of Docker or Compose failed, or did not end in time. The message has its last words."""


class Engine:
    """Runs commands for one Compose project.

    The environment says what they are called: COMPOSE (`docker compose` where it is not set) and DOCKER (`docker`).
    """

    def __init__(self, project: str, variables: Mapping[str, str]) -> None:
        """Make one that has run nothing yet.

        Args:
            project: name of the Compose project.
            variables: what the Compose files are filled in with.
        """
        self.project = project
        self._compose = shlex.split(os.environ.get("COMPOSE", "")) or ["docker", "compose"]
        self._docker = shlex.split(os.environ.get("DOCKER", "")) or ["docker"]
        # An engine that these commands start must not keep its files in our folder, which ends with us.
        inherited = {name: value for name, value in os.environ.items() if name != "TMPDIR"}
        self._environment = {**inherited, **variables}

    async def docker(self, *arguments: str, patience: float = _PATIENCE_SECONDS) -> str:
        """What the command printed.

        Raises:
            EngineError: it failed.
        """
        return (await self._run([*self._docker, *arguments], patience))[0]

    async def logs(self, container_id: str, *, lines: int) -> str:
        """The last lines that a container has printed, without colours.

        Raises:
            EngineError: it cannot be asked.
        """
        both = await self._run([*self._docker, "logs", "--tail", str(lines), container_id], _PATIENCE_SECONDS)
        return Text.from_ansi("".join(both)).plain

    async def reach(self) -> None:
        """Make sure that there are an engine and Compose.

        Raises:
            EngineError: one of them is not there.
        """
        await self._run([*self._docker, "version"], _PATIENCE_SECONDS)
        await self._run([*self._compose, "version"], _PATIENCE_SECONDS)

    async def compose(
        self,
        *arguments: str,
        files: Sequence[Path] = (COMPOSE_FILE, OVERRIDE_FILE),
        unset: Sequence[str] = (),
        patience: float = _PATIENCE_SECONDS,
        codes: Collection[int] = SUCCESS,
    ) -> str:
        """What the command printed.

        Args:
            arguments: of `docker compose`.
            files: of the project.
            unset: variables that shall have their defaults.
            patience: seconds until it must have ended.
            codes: exit codes with which it has not failed.

        Raises:
            EngineError: it failed.
        """
        return (await self._run(self._of_project(files, arguments), patience, unset, codes))[0]

    async def warnings(self, *arguments: str, files: Sequence[Path]) -> str:
        """What Compose has to say of its files beside what it was asked for.

        Raises:
            EngineError: the command failed.
        """
        said = (await self._run(self._of_project(files, arguments), _PATIENCE_SECONDS))[1]
        return "\n".join(line for line in said.splitlines() if "level=" in line or "WARN" in line)

    def _of_project(self, files: Sequence[Path], arguments: Sequence[str]) -> list[str]:
        named = [argument for file in files for argument in ("-f", str(file))]
        return [*self._compose, "-p", self.project, *named, *arguments]

    async def _run(
        self,
        command: list[str],
        patience: float,
        unset: Sequence[str] = (),
        codes: Collection[int] = SUCCESS,
    ) -> tuple[str, str]:
        # In a session of its own: the Ctrl-C that ends us must not end, halfway, what we wait for.
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                cwd=ROOT,
                env={name: value for name, value in self._environment.items() if name not in unset},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise EngineError(
                f"{command[0]}: {error.strerror}; the stack takes Docker with Compose v2, or COMPOSE and DOCKER "
                "in the environment that say what they are called here"
            ) from None
        try:
            async with asyncio.timeout(patience):
                out, error_out = await process.communicate()
        except TimeoutError:
            raise EngineError(f"{shlex.join(command)}: has not ended in {patience:g} s") from None
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    process.terminate()
                await process.wait()
        printed, said = out.decode(errors="replace"), error_out.decode(errors="replace")
        if process.returncode not in codes:
            last = [line for text in (printed, said) for line in text.splitlines()[-_LAST_LINES:]]
            raise EngineError("\n".join([f"{shlex.join(command)}: ended with {process.returncode}", *last]))
        return printed, said
