"""Ports and settings of `bridge dev`: the usual ports where they are free, and a settings file for other commands."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson

from bridge import private_files
from bridge.development.ports import are_free, free_ports
from bridge.roles.api import API_HEALTH_PORT
from bridge.roles.receiver import RECEIVER_HEALTH_PORT
from bridge.roles.worker import WORKER_HEALTH_PORT
from bridge.settings import sections

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from bridge.development.simulator import Simulator
    from bridge.settings.sections import Settings

TOKEN: Final = "dev-token-not-a-secret"  # noqa: S105 -- it protects a port of 127.0.0.1, and is public
API_TOKEN: Final = "dev-api-token-not-a-secret"  # noqa: S105 -- as above
RECEIVER_PORT: Final = 8080
API_PORT: Final = 8081
SIMULATOR_PORT: Final = 8082
CONFIG: Final = "bridge.toml"
_HOST: Final = "127.0.0.1"


class PortInUseError(OSError):
    """A port that was asked for cannot be listened on. The message names it, and the option to change."""


@dataclass(frozen=True, slots=True)
class DevPorts:
    """A port of 127.0.0.1 for each server of `bridge dev`."""

    receiver: int
    api: int
    simulator: int
    receiver_health: int
    worker_health: int
    api_health: int
    notes: tuple[str, ...]
    """A line for each that another program has taken, and that somebody would look for."""

    @property
    def health_urls(self) -> tuple[str, ...]:
        """Of receiver, worker and API."""
        ports = self.receiver_health, self.worker_health, self.api_health
        return tuple(f"http://{_HOST}:{port}" for port in ports)


def choose_ports(port: int | None, api_port: int | None) -> DevPorts:
    """The usual ports, or free ones where others listen.

    Args:
        port: of the receiver; None: 8080, or a free one if that is taken; 0: any free one, and so for simulator and health.
        api_port: the same of the API; None: 8081, or a free one.

    Raises:
        PortInUseError: a port that was given cannot be listened on.
    """
    notes: list[str] = []

    def chosen(server: str, usual: int, option: str, wanted: int | None) -> int:
        if wanted == 0:
            return _free_port()
        if wanted is not None:
            _try(server, wanted, option)
            return wanted
        if are_free(usual):
            return usual
        other = _free_port()
        notes.append(f"port {usual} is in use by another program: the {server} has {other}")
        return other

    def quiet(usual: int) -> int:
        return usual if port != 0 and are_free(usual) else _free_port()

    return DevPorts(
        receiver=chosen("receiver", RECEIVER_PORT, "--port", port),
        api=chosen("API", API_PORT, "--api-port", api_port),
        simulator=quiet(SIMULATOR_PORT),
        receiver_health=quiet(RECEIVER_HEALTH_PORT),
        worker_health=quiet(WORKER_HEALTH_PORT),
        api_health=quiet(API_HEALTH_PORT),
        notes=tuple(notes),
    )


def _free_port() -> int:
    return free_ports(1)[0]


def _try(server: str, port: int, option: str) -> None:
    """At once, and not when RabbitMQ has started."""
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind((_HOST, port))
        except OSError as error:
            reason = os.strerror(error.errno or 0)
            raise PortInUseError(
                f"{server} cannot listen on {_HOST}:{port}: {reason}; choose another port with {option}"
            ) from None


def overrides(
    directory: Path, rabbitmq_url: str, management_url: str | None, simulator: Simulator, ports: DevPorts
) -> dict[str, dict[str, Any]]:
    """The settings that `bridge dev` decides itself: section -> name -> value."""
    return {
        "rabbitmq": {"urls": [rabbitmq_url]}
        | ({"management_url": management_url} if management_url is not None else {}),
        "receiver": {"host": _HOST, "port": ports.receiver, "processes": 1, "tokens": [TOKEN]},
        "api": {
            "host": _HOST,
            "port": ports.api,
            "tokens": [f"dev:check+read+write+override:{API_TOKEN}"],
        },
        "provider": {"base_url": simulator.base_url, "api_token": simulator.token},
        "suppression": {"database_url": f"sqlite+aiosqlite:///{directory}/suppressions.sqlite3"},
        "spool": {"directory": f"{directory}/spool"},
        "console": {"directory": f"{directory}/console"},
        "health": {"roles": list(ports.health_urls)},
    }


def with_health(settings: Settings, port: int) -> Settings:
    """The settings of one role, which serves its health on this port."""
    return settings.model_copy(update={"health": sections.Health(port=port, roles=settings.health.roles)})


def write_config(directory: Path, settings: Settings, decided: Mapping[str, Mapping[str, Any]]) -> Path:
    """Write the settings in force to a file, so that `bridge --config` can be used with the running stack.

    Strings, numbers and lists of JSON are valid TOML. All secrets are in what was decided.
    """
    in_force = settings.model_dump(mode="json", exclude_defaults=True)
    in_force.pop("health", None)  # each role has a port of its own: `health.roles` says which
    tables = [("[[subscribers]]", subscriber) for subscriber in in_force.pop("subscribers", ())]
    tables += [
        (f"[{section}]", in_force.get(section, {}) | dict(decided.get(section, {})))
        for section in dict.fromkeys([*decided, *in_force])
    ]
    lines = ["# Written by `bridge dev`, for the current run."]
    for head, values in tables:
        lines.append(head)
        lines += [f"{name} = {orjson.dumps(value).decode()}" for name, value in values.items()]
    path = directory / CONFIG
    private_files.create_file(path)
    path.write_text("\n".join([*lines, ""]))
    return path
