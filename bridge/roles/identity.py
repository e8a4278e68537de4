"""Which bridge a role belongs to, and with which settings file it was started; shown in `/readyz`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from yarl import URL

from bridge.telemetry.health import Readiness

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bridge.amqp.connection import Link
    from bridge.settings.sections import RabbitMQ, Settings
    from bridge.settings.sources import Origin

BRIDGE: Final = "bridge"
SETTINGS: Final = "settings"
"""Parts of `/readyz`."""

_LOOPBACK: Final = {"localhost": "127.0.0.1", "::1": "127.0.0.1"}


@dataclass(frozen=True, slots=True)
class Identity:
    """What tells two bridges apart."""

    prefix: str
    virtual_host: str
    nodes: tuple[str, ...]
    """RabbitMQ's nodes, as `host:port`."""
    cluster: str = ""
    """RabbitMQ's own name for itself; empty while it has not been reached."""

    def __str__(self) -> str:
        where = f"RabbitMQ '{self.cluster}'" if self.cluster else f"RabbitMQ at {', '.join(self.nodes)}"
        return f"prefix '{self.prefix}', virtual host '{self.virtual_host}', {where}"

    def is_another_than(self, other: Identity) -> bool:
        """Whether they are surely two. One broker may be called by several names, so its own name decides."""
        if (self.prefix, self.virtual_host) != (other.prefix, other.virtual_host):
            return True
        if self.cluster and other.cluster:
            return self.cluster != other.cluster
        return not set(self.nodes) & set(other.nodes)


def identity_of(settings: RabbitMQ, cluster: str = "") -> Identity:
    """The identity of the bridge with these settings. Args: where RabbitMQ is; its cluster name, if it has been reached."""
    urls = [URL(url.get_secret_value()) for url in settings.urls]
    nodes = tuple(f"{_LOOPBACK.get(url.host or '', url.host)}:{url.port or 5672}" for url in urls)
    return Identity(settings.prefix, settings.virtual_host, nodes, cluster)


def read_identity(part: Any) -> Identity | None:
    """The identity in a role's `/readyz`; None if there is none, as in an earlier release."""
    try:
        return Identity(
            str(part["prefix"]), str(part["virtual_host"]), tuple(part["nodes"]), str(part["cluster"])
        )
    except (TypeError, KeyError):
        return None


def settings_file(origin: Origin) -> dict[str, str]:
    """The settings file with which a role was started, for `/readyz`; empty where it has none."""
    if origin.config is None:
        return {}
    return {"file": str(origin.config.absolute()), "fingerprint": origin.fingerprint}


def identified(settings: Settings, link: Link, check: Callable[[], Readiness]) -> Callable[[], Readiness]:
    """The same readiness, and who says so."""
    file = settings_file(settings.origin)

    def ready() -> Readiness:
        said = check()
        who: Mapping[str, Any] = asdict(identity_of(settings.rabbitmq, link.cluster))
        return Readiness(said.ready, {**said.parts, BRIDGE: who, SETTINGS: file})

    return ready
