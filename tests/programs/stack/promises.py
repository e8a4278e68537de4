"""What the stack promises of itself, looked at while it stands: users, networks, ports, limits, secrets."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tests.programs.stack import alerts, api_promises, diagnostics, privileges, subscribing
from tests.programs.stack.engine import COMPOSE_FILE, OVERRIDE_FILE, EngineError
from tests.programs.stack.settling import still_wrong
from tests.programs.stack.stack import OURS, STAYING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.programs.stack.stack import Stack

    Look = Callable[[Stack], Awaitable[list[str]]]

_ENDING: Final = frozenset({"setup", "bridge", "simulator"})
"""Services that end by themselves, so that a health check would say nothing."""
_COMPILERS: Final = "cc gcc g++ c++ clang clang++ tcc rustc go make ld as cpp"
_FIND: Final = f"for name in {_COMPILERS}; do command -v $name || true; done"
_WRITE: Final = "for folder in / /etc /opt/bridge /usr/local; do touch $folder/written 2>/dev/null && echo $folder; done; true"
_RESOLVE: Final = "import socket; print(socket.getaddrinfo('postgres', 5432))"
_CONNECT: Final = "import socket; socket.create_connection(('{}', 5432), 3)"
_SHORTEST_SECRET: Final = 16
_SCRAPED: Final = dict.fromkeys(("receiver", "worker", "api", "console", "rabbitmq", "prometheus"), 1.0)
_SEEN_SECONDS: Final = 60.0
_PUBLISHING: Final = {"receiver": 8080, "api": 8081, "console": 8083, "rabbitmq": 5672, "grafana": 3000}
"""Service -> the port of it that is published; of RabbitMQ that of AMQP only."""


@dataclass(frozen=True, slots=True)
class Promise:
    what: str
    broken: tuple[str, ...]
    """Where it does not hold."""


async def looked_at(stack: Stack, what: str) -> Promise:
    """Whether one of `ALL` or `AFTERWARDS` holds."""
    look = ALL[what] if what in ALL else AFTERWARDS[what]
    return Promise(what, tuple(await look(stack)))


async def _clean(stack: Stack) -> list[str]:
    said = [
        await stack.engine.warnings("--profile", "*", "config", "--quiet", files=files)
        for files in ([COMPOSE_FILE], [COMPOSE_FILE, OVERRIDE_FILE])
    ]
    return [line for text in said for line in text.splitlines()]


async def _no_root(stack: Stack) -> list[str]:
    """The processes as the machine sees them, and not the setting."""
    wrong = []
    for one in await stack.containers(*STAYING):
        listed = (await stack.engine.docker("top", one.id, "-eo", "uid,pid,comm")).splitlines()[1:]
        wrong += [f"{one.name}: {' '.join(line.split())}" for line in listed if line.split()[0] == "0"]
        wrong += [] if listed else [f"{one.name}: no process is seen"]
    for one in await stack.containers():
        [document] = await stack.inspect([one.id])
        if document["Config"]["User"] in {"", "0", "root"}:
            wrong.append(f"{one.name}: its user is {document['Config']['User'] or 'not set'}")
    return wrong


async def _read_only(stack: Stack) -> list[str]:
    wrong = []
    for one in await stack.containers(*OURS):
        [document] = await stack.inspect([one.id])
        if not document["HostConfig"]["ReadonlyRootfs"]:
            wrong.append(f"{one.name}: not read-only")
        if document["State"]["Running"]:
            written = await stack.execute(one, "sh", "-c", _WRITE)
            wrong += [f"{one.name}: {folder} can be written" for folder in written.split()]
    return wrong


async def _unprivileged(stack: Stack) -> list[str]:
    wrong = []
    for one in await stack.containers():
        [document] = await stack.inspect([one.id])
        host = document["HostConfig"]
        if host["CapDrop"] != ["ALL"] or host["CapAdd"] or host["Privileged"]:
            wrong.append(f"{one.name}: it has capabilities")
        if "no-new-privileges:true" not in (host["SecurityOpt"] or []):
            wrong.append(f"{one.name}: it may gain privileges")
    return wrong


async def _few_ports(stack: Stack) -> list[str]:
    wrong = []
    for name, service in (await _configured(stack)).items():
        wrong += [
            f"{name} publishes {port}"
            for port in service.get("ports", [])
            if (port.get("host_ip"), port.get("target")) != ("127.0.0.1", _PUBLISHING.get(name))
        ]
    for published in await stack.inspect(one.id for one in await stack.containers(*_PUBLISHING)):
        for bindings in published["NetworkSettings"]["Ports"].values():
            wrong += [
                f"{published['Name']}: {one['HostIp']}:{one['HostPort']}"
                for one in bindings or []
                if one["HostIp"] != "127.0.0.1"
            ]
    return wrong


async def _no_way_to_postgres(stack: Stack) -> list[str]:
    """Neither by its name nor by its address, for which one must be told it."""
    [receiver] = await stack.containers("receiver")
    [postgres] = await stack.inspect(one.id for one in await stack.containers("postgres"))
    addresses = [network["IPAddress"] for network in postgres["NetworkSettings"]["Networks"].values()]
    wrong = []
    for attempt in (_RESOLVE, *(_CONNECT.format(address) for address in addresses)):
        try:
            await stack.execute(receiver, "python", "-ISc", attempt)
        except EngineError:
            continue
        wrong.append(f"in the receiver this works: {attempt}")
    return wrong


async def _bounded(stack: Stack) -> list[str]:
    wrong = []
    for name, service in (await _configured(stack)).items():
        limits = service.get("deploy", {}).get("resources", {}).get("limits", {})
        wrong += [f"{name}: no limit of {what}" for what in ("cpus", "memory") if what not in limits]
        options = service.get("logging", {}).get("options", {})
        wrong += [f"{name}: no {what} of its log" for what in ("max-size", "max-file") if what not in options]
        if name not in _ENDING and not service.get("healthcheck", {}).get("test"):
            wrong.append(f"{name}: no health check")
    for one in await stack.containers():
        [document] = await stack.inspect([one.id])
        host = document["HostConfig"]
        if not host["Memory"] or not host["NanoCpus"] or "max-size" not in host["LogConfig"]["Config"]:
            wrong.append(f"{one.name}: the engine knows of no limit")
    return wrong


async def _no_secret_shown(stack: Stack) -> list[str]:
    """Nowhere that Docker shows things: its settings, its containers, their processes and logs, the image."""
    ids = [one.id for one in await stack.containers()]
    running = [one.id for one in await stack.containers(*STAYING)]
    shown = {
        "docker compose config": await stack.engine.compose("--profile", "*", "config"),
        "docker inspect": await stack.engine.docker("inspect", *ids),
        "docker history": await stack.engine.docker("history", "--no-trunc", stack.image),
        "docker compose logs": await stack.engine.compose("--profile", "*", "logs", "--no-color"),
        **{f"docker top {one}": await stack.engine.docker("top", one) for one in running},
    }
    secrets = {file.name: file.read_text().strip() for file in stack.secrets.iterdir()}
    for one in secrets.pop("api_tokens").split(","):  # with the token of each stand its name and its scopes
        name, _, token = one.split(":")
        secrets[f"the API's token '{name}'"] = token
    short = [f"{name} is shorter than a secret" for name, it in secrets.items() if len(it) < _SHORTEST_SECRET]
    return short + [
        f"{where}: {name}" for where, text in shown.items() for name, it in secrets.items() if it in text
    ]


async def _no_compiler(stack: Stack) -> list[str]:
    [receiver] = await stack.containers("receiver")
    return (await stack.execute(receiver, "sh", "-c", _FIND)).split()


async def _never_fell(stack: Stack) -> list[str]:
    """Docker starts again what has ended by itself, and nobody would notice."""
    wrong = []
    for one in await stack.containers(*STAYING):
        [document] = await stack.inspect([one.id])
        if document["State"]["OOMKilled"]:
            wrong.append(f"{one.name}: it wanted more memory than its limit")
        if document["RestartCount"]:
            wrong.append(f"{one.name}: it has ended by itself {document['RestartCount']} times")
    return wrong


async def _seen(stack: Stack) -> list[str]:
    """Prometheus finds them by their names; none of them is seen twice, over another network."""
    return await still_wrong(lambda: _unseen(stack), patience=_SEEN_SECONDS)


async def _unseen(stack: Stack) -> list[str]:
    up = await alerts.found(stack, "sum by (job) (up)")
    return [] if up == _SCRAPED else [f"up is {up}, and should be {_SCRAPED}"]


async def _configured(stack: Stack) -> dict[str, dict[str, Any]]:
    """Services as docker-compose.yml alone has them, with what is in force where nothing is set.

    This run's own variables are part of it, as anybody's would be, but for the ports, which are the default.
    """
    text = await stack.engine.compose(
        "--profile",
        "*",
        "config",
        "--format",
        "json",
        files=[COMPOSE_FILE],
        unset=["RECEIVER_PUBLISH", "API_PUBLISH", "CONSOLE_PUBLISH", "RABBITMQ_PUBLISH", "GRAFANA_PUBLISH"],
    )
    services: dict[str, dict[str, Any]] = json.loads(text)["services"]
    return services


ALL: Final[dict[str, Look]] = {
    "`docker compose config` has no warning": _clean,
    "no process of any container is root's": _no_root,
    "our containers cannot write to their root": _read_only,
    "no capabilities, and none to be gained": _unprivileged,
    "only the ports of receiver, API, console, Grafana and RabbitMQ's AMQP are published, on 127.0.0.1": _few_ports,
    "the receiver cannot reach PostgreSQL": _no_way_to_postgres,
    "the API cannot reach RabbitMQ": api_promises.no_way_to_rabbitmq,
    "the API's user of the database may do its own work and no more": api_promises.least_rights,
    "the API answers senders by their tokens": api_promises.answering,
    "limits, log rotation and a health check everywhere": _bounded,
    "no secret is shown by Docker": _no_secret_shown,
    "no compiler in the image": _no_compiler,
    "Prometheus sees every role and RabbitMQ, once": _seen,
    "the doctor finds nothing that fails, and status finds all roles": diagnostics.well,
    "what is discarded is kept in a file": diagnostics.discarding,
    "a token is rotated, and the receiver is not started anew": diagnostics.rotated,
    "a service gets its first event after one command, and nothing is started anew": subscribing.subscribed,
    "RabbitMQ's users may do their own work and no more": privileges.permitted,
}
"""What is promised -> how to look whether it holds."""

AFTERWARDS: Final[dict[str, Look]] = {
    "the API says no for addresses of the list": api_promises.says_no,
    "no container has ended by itself": _never_fell,
    "no secret is shown by Docker, in the logs of all this neither": _no_secret_shown,
}
"""The same, of what is only known at the end."""
