"""The stack under test: a Compose project of its own, with secrets, an image and a folder that end with it."""

from __future__ import annotations

import asyncio
import json
import secrets
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from prometheus_client.parser import text_string_to_metric_families
from yarl import URL

from tests.programs.stack.engine import ROOT, SUCCESS, Engine, EngineError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

PROMETHEUS: Final = "prometheus"
STAYING: Final = ("rabbitmq", "postgres", "receiver", "worker", "api", "console", "provider", PROMETHEUS)
"""Services that run for as long as the stack stands."""
OURS: Final = ("setup", "receiver", "worker", "api", "console", "bridge", "provider", "simulator")
"""Services that our image is."""

_HEALTH_PORT: Final = {"receiver": 8090, "worker": 8091, "api": 8092, "console": 8092}
_BUILD_SECONDS: Final = 900.0
_UP_SECONDS: Final = 600.0
"""Where the images of RabbitMQ and PostgreSQL are fetched, too."""
_HEALTHY_SECONDS: Final = 240.0
"""Twice what a restart of RabbitMQ takes on two cores that have much else to do."""
_LOOK_EVERY_SECONDS: Final = 0.5
_LAST_LINES: Final = 25
_REMOVALS: Final = (
    (("container", "ls", "--all"), ("container", "rm", "--force", "--volumes")),
    (("network", "ls"), ("network", "rm")),
    (("volume", "ls"), ("volume", "rm")),
)
"""How to list a kind of thing, and how to remove it; what stands on another comes first."""
_FETCH: Final = "from urllib.request import urlopen; print(urlopen('{}', timeout=30).read().decode())"


class UnwellError(AssertionError):
    """A container is not as it shall be. The message names it and says how it is."""


@dataclass(frozen=True, slots=True)
class Container:
    id: str
    service: str
    name: str


class Stack:
    """What can be done with the project, in the words of Compose."""

    def __init__(self, rate: float) -> None:
        """Make the folder and the secrets; nothing is started.

        Args:
            rate: events a second that the simulator posts.
        """
        run = secrets.token_hex(3)
        self.image = f"bridge-stack-test:{run}"
        self.folder = Path(tempfile.mkdtemp(prefix="bridge-stack-"))
        self.secrets = self.folder / "secrets"
        self.history = self.folder / "history.jsonl"
        self.ledger = self.folder / "answers" / "ledger"
        self.ledger.parent.mkdir()
        # The simulator writes there, as a user that this machine need not know.
        self.ledger.parent.chmod(0o777)
        self.engine = Engine(
            f"bridge-stack-test-{run}",
            {
                "SECRETS": str(self.secrets),
                "IMAGE": self.image,
                "STACK_ANSWERS": str(self.ledger.parent),
                "SIMULATOR_RATE": f"{rate:g}",
                "PROVIDER_BASE_URL": "http://provider:8082/v1",
                "PROVIDER_RATE": "1000",
                "RECEIVER_PUBLISH": "127.0.0.1:",  # any free port
                "API_PUBLISH": "127.0.0.1:",
                "CONSOLE_PUBLISH": "127.0.0.1:",
                "RABBITMQ_PUBLISH": "127.0.0.1:",
                "COMPOSE_PROFILES": "",
            },
        )

    async def make_secrets(self) -> None:
        """As `make secrets` does."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(ROOT / "config" / "make_secrets.py"), str(self.secrets),
            stdout=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        if await process.wait():
            raise UnwellError("config/make_secrets.py failed")

    def secret(self, name: str) -> str:
        return (self.secrets / name).read_text().strip()

    async def build(self) -> None:
        await self.engine.compose("build", "--quiet", patience=_BUILD_SECONDS)

    async def up(self) -> None:
        """Everything but the load; all of it is healthy then. Prometheus comes last, when all is there to be seen."""
        for services in ((*STAYING[:-1], "setup"), (PROMETHEUS,)):
            await self.engine.compose(
                "--profile", "simulator", "--profile", "observability",
                "up", "--detach", "--no-build", "--wait", *services, patience=_UP_SECONDS,
            )  # fmt: skip

    async def scale_workers(self, number: int) -> None:
        """As the README has it."""
        scale = f"worker={number}"
        await self.engine.compose(
            "up", "--detach", "--no-build", "--wait", "--scale", scale, patience=_UP_SECONDS
        )

    async def start_load(self) -> None:
        arguments = ("up", "--detach", "--no-build", "--no-deps", "simulator")
        await self.engine.compose("--profile", "simulator", *arguments)

    async def stop_load(self) -> None:
        [simulator] = await self.containers("simulator")
        await self.engine.docker("stop", "-t", "30", simulator.id)

    async def restart(self, service: str) -> None:
        await self.engine.compose("restart", service)

    async def kill(self, container: Container) -> None:
        """SIGKILL. A restart policy leaves alone what somebody has killed."""
        await self.engine.docker("kill", "--signal", "KILL", container.id)

    async def start(self, container: Container) -> None:
        await self.engine.docker("start", container.id)

    async def containers(self, *services: str) -> list[Container]:
        """Those of these services, or of all; also those that have ended."""
        ids = await self._labelled("container", "ls", "--all")
        found = [
            Container(
                one["Id"], one["Config"]["Labels"]["com.docker.compose.service"], one["Name"].lstrip("/")
            )
            for one in await self.inspect(ids)
        ]
        return sorted(
            (one for one in found if not services or one.service in services), key=lambda one: one.name
        )

    async def inspect(self, ids: Iterable[str]) -> list[dict[str, Any]]:
        """What Docker knows of these containers."""
        named = list(ids)
        documents: list[dict[str, Any]] = (
            json.loads(await self.engine.docker("inspect", *named)) if named else []
        )
        return documents

    async def healthy(self, *services: str) -> None:
        """Wait until every container of these services is.

        Raises:
            UnwellError: one is not, after a good while.
        """
        ids = [one.id for one in await self.containers(*services)]
        deadline = time.monotonic() + _HEALTHY_SECONDS
        while True:
            unwell = [
                f"{one['Name'].lstrip('/')} is {_condition(one['State'])}"
                for one in await self.inspect(ids)
                if _condition(one["State"]) != "healthy"
            ]
            if not unwell:
                return
            if time.monotonic() > deadline:
                raise UnwellError(f"after {_HEALTHY_SECONDS:g} s {', '.join(unwell)}")
            await asyncio.sleep(_LOOK_EVERY_SECONDS)

    async def url(self, user: str) -> str:
        """RabbitMQ's, for this user of it, from outside; another one each time that it is started.

        Raises:
            EngineError: it is not up.
        """
        host, _, port = (await self.engine.compose("port", "rabbitmq", "5672")).strip().rpartition(":")
        return str(URL(self.secret(f"rabbitmq_{user}_url")).with_host(host).with_port(int(port)))

    async def prometheus(self) -> str:
        """The URL of Prometheus from outside.

        Raises:
            EngineError: it is not up.
        """
        return f"http://{(await self.engine.compose('port', PROMETHEUS, '9090')).strip()}"

    async def execute(self, container: Container, *command: str) -> str:
        return await self.engine.docker("exec", container.id, *command)

    async def counted(self, container: Container, metric: str) -> float:
        """The sum of a metric over all its labels.

        Raises:
            EngineError: the role does not answer.
        """
        address = f"http://127.0.0.1:{_HEALTH_PORT[container.service]}/metrics"
        text = await self.execute(container, "python", "-ISc", _FETCH.format(address))
        families = text_string_to_metric_families(text)
        return sum(sample.value for family in families for sample in family.samples if sample.name == metric)

    async def queues(self) -> dict[str, int]:
        """Queue -> messages that are in it, delivered or not."""
        [rabbitmq] = await self.containers("rabbitmq")
        command = ("rabbitmqctl", "--quiet", "list_queues", "name", "messages", "--formatter", "json")
        return {one["name"]: one["messages"] for one in json.loads(await self.execute(rabbitmq, *command))}

    async def bridge(self, *arguments: str, codes: Collection[int] = SUCCESS) -> Any:
        """What `docker compose run --rm bridge ... --json` prints."""
        run = ("run", "--rm", "--no-deps", "--no-TTY", "bridge", *arguments, "--json")
        return json.loads(await self.engine.compose(*run, codes=codes))

    async def examined(self, command: str) -> Any:
        """The same of `doctor` and `status`, which end with 1 where they have found something."""
        return await self.bridge(command, codes=(0, 1))

    async def last_words(self) -> str:
        """The end of each container's log."""
        said = []
        for one in await self.containers():
            [document] = await self.inspect([one.id])
            said.append(f"--- {one.name} ({_condition(document['State'])})")
            said.append(await self.engine.logs(one.id, lines=_LAST_LINES))
        return "\n".join(said)

    async def take_down(self) -> list[str]:
        """Remove all of it; returns what is left all the same.

        Raises:
            EngineError: it cannot even be asked what is left.
        """
        shutil.rmtree(self.folder, ignore_errors=True)
        containers = await self.inspect(one.id for one in await self.containers())
        volumes = {
            mount["Name"] for one in containers for mount in one["Mounts"] if mount["Type"] == "volume"
        }
        try:
            await self.engine.compose(
                "--profile", "*", "down", "--volumes", "--remove-orphans", patience=_UP_SECONDS
            )
        except EngineError:  # a file that Compose does not take is no reason to leave what stands
            await self._remove()
        if await self._images():
            await self.engine.docker("image", "rm", self.image)
        return await self._left(volumes)

    async def _remove(self) -> None:
        """What `docker compose down` would, without its files."""
        for listing, removal in _REMOVALS:
            if found := await self._labelled(*listing):
                await self.engine.docker(*removal, *found)

    async def _left(self, volumes: set[str]) -> list[str]:
        left = [f"{listing[0]} {one}" for listing, _ in _REMOVALS for one in await self._labelled(*listing)]
        standing = set((await self.engine.docker("volume", "ls", "--quiet")).split())
        left += [f"volume {one}" for one in volumes & standing]
        left += [f"image {one}" for one in await self._images()]
        return [*left, *([f"folder {self.folder}"] if self.folder.exists() else [])]

    async def _labelled(self, *listing: str) -> list[str]:
        label = f"label=com.docker.compose.project={self.engine.project}"
        return (await self.engine.docker(*listing, "--quiet", "--filter", label)).split()

    async def _images(self) -> list[str]:
        return (await self.engine.docker("image", "ls", "--quiet", self.image)).split()


def _condition(state: dict[str, Any]) -> str:
    """`healthy`, `starting`, `unhealthy`; of what has no health check or has ended, Docker's word for that."""
    if state["Status"] == "running" and "Health" in state:
        return str(state["Health"]["Status"])
    return f"{state['Status']} ({state['ExitCode']})" if state["Status"] == "exited" else str(state["Status"])
