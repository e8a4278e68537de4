"""What docker-compose.yml publishes, read from the file: `make stack-test` runs the whole of it."""

from __future__ import annotations

import re
from pathlib import Path

from config import make_secrets

COMPOSE = (Path(__file__).parents[2] / "docker-compose.yml").read_text("utf-8")


def test_ports_are_published_on_this_machine_only() -> None:
    """Each by a variable that its first lines explain; RabbitMQ's is that of AMQP, and not that of the management API."""
    ports = re.findall(r'ports: \["\$\{(\w+):-(127\.0\.0\.1:\d+)\}:(\d+)"\]', COMPOSE)
    assert ports == [
        ("RABBITMQ_PUBLISH", "127.0.0.1:5672", "5672"),
        ("RECEIVER_PUBLISH", "127.0.0.1:8080", "8080"),
        ("API_PUBLISH", "127.0.0.1:8081", "8081"),
        ("CONSOLE_PUBLISH", "127.0.0.1:8083", "8083"),
        ("GRAFANA_PUBLISH", "127.0.0.1:3000", "3000"),
    ]
    assert len(ports) == COMPOSE.count("ports:")
    explained = COMPOSE.partition("name: bridge")[0]
    assert all(f"#   {name} " in explained and default in explained for name, default, _ in ports)


def test_the_examples_user_may_read_what_a_subscriber_has() -> None:
    """Its queue, its dead letters, and the exchanges that its queue may be bound to; it publishes and declares nothing."""
    crm = make_secrets.USERS["crm"]
    readable = [
        name
        for name in ("crm", "crm.dead", "email.events", "suppression.changes", "suppression", "crm2", "crm.x")
        if re.search(crm.read, name)
    ]
    assert readable == ["crm", "crm.dead", "email.events", "suppression.changes"]
    assert (crm.configure, crm.write, crm.tags) == ("^$", "^crm$", ())
