"""The environment that Kubernetes gives to a pod: variables of each service of its namespace."""

from __future__ import annotations

from typing import Final

SERVICES: Final = (
    "bridge",
    "bridge-receiver",
    "bridge-worker",
    "bridge-config",
    "bridge--odd",
    "rabbitmq",
    "postgres",
)


def service_links(*services: str, address: str = "10.0.0.7", port: int = 8080) -> dict[str, str]:
    """All that `enableServiceLinks` sets, which is on by default."""
    variables: dict[str, str] = {}
    for service in services:
        name = service.upper().replace("-", "_")
        url = f"tcp://{address}:{port}"
        variables |= {
            f"{name}_SERVICE_HOST": address,
            f"{name}_SERVICE_PORT": str(port),
            f"{name}_SERVICE_PORT_HTTP": str(port),
            f"{name}_PORT": url,
            f"{name}_PORT_{port}_TCP": url,
            f"{name}_PORT_{port}_TCP_PROTO": "tcp",
            f"{name}_PORT_{port}_TCP_PORT": str(port),
            f"{name}_PORT_{port}_TCP_ADDR": address,
        }
    return variables
