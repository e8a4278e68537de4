"""Parts of `bridge status` and `bridge doctor` that need no broker."""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import closing
from pathlib import Path

import aiohttp
import pytest
from pydantic import SecretStr

from bridge.diagnostics import machine_checks, role_status
from bridge.settings.api_section import Api
from bridge.settings.sections import Health, Settings, Spool
from bridge.spool.claiming import claim_file
from bridge.spool.entries import SpoolEntry
from bridge.telemetry import health
from bridge.telemetry.metrics import Metrics
from bridge.threads import run_abandonable
from tests.support.ports import free_port

MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:25 / /run rw,nosuid - tmpfs tmpfs rw,size=1g
31 22 0:40 / /var/lib/my\\040spool rw - nfs4 server:/export rw
32 22 0:41 / /over rw - ext4 /dev/sdb1 rw
33 22 0:42 / /over rw - overlay overlay rw
"""


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each role here answers, or refuses at once, however long this process stands still."""
    monkeypatch.setattr(role_status, "_TIMEOUT_SECONDS", 60.0)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/bridge/spool", "ext4"),
        ("/run/spool", "tmpfs"),
        ("/running/spool", "ext4"),
        ("/var/lib/my spool/x", "nfs4"),
        ("/over/spool", "overlay"),
    ],
)
def test_the_file_system_is_that_of_the_nearest_mount_point(path: str, kind: str) -> None:
    """A whole part of the path counts, not its letters; of two mounts on one point the later is seen."""
    assert machine_checks._kind_of(Path(path), MOUNTS) == kind


@pytest.mark.parametrize(
    ("megabytes", "status"), [(0, "ok"), (7, "ok"), (9, "warning"), (10, "failed")], ids=str
)
def test_what_a_spool_holds_is_compared_with_its_limit(tmp_path: Path, megabytes: int, status: str) -> None:
    """A full spool answers 503 however much room its disk has."""
    with closing(claim_file(tmp_path, min_free_bytes=0)) as file:
        file.write([SpoolEntry(number, 1, b"x" * 1024**2) for number in range(1, 1 + megabytes)], ())
    spool = Spool(directory=tmp_path, max_bytes=10 * 1024**2, min_free_bytes=0)
    finding = machine_checks.spool_space("spool space", spool)
    assert finding.status == status
    assert megabytes < 9 or "spool.max_bytes" in finding.seen


async def test_a_disk_that_does_not_answer_holds_nobody_up() -> None:
    """Who waits may give up, and the thread is left behind."""
    answers = threading.Event()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await run_abandonable(answers.wait)
    answers.set()
    assert await run_abandonable(lambda: 1) == 1


async def test_what_a_blocking_call_raises_is_raised() -> None:
    """As it is."""
    with pytest.raises(FileNotFoundError):
        await run_abandonable(Path("/there/is/no/such/file").stat)


async def test_a_host_name_stands_for_all_its_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """In Compose the name of a service is all its containers: each of them is a role, also one that does not answer."""
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, 1)) for host in ("127.0.0.3", "127.0.0.2")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    async with aiohttp.ClientSession() as session:
        seen = await role_status.ask_all(session, ["http://worker:1/"])
    assert [role.url for role in seen] == ["http://127.0.0.2:1", "http://127.0.0.3:1"]
    assert all(role.problem for role in seen)


def health_urls(health: Health, api: Api | None = None) -> list[str]:
    return role_status.health_urls(Settings.model_construct(health=health, api=api or Api()))


def test_roles_are_looked_for_where_the_settings_have_them() -> None:
    """A receiver and a worker on this machine; the one of this port where there is one; never at 0.0.0.0."""
    api = Api(tokens=(SecretStr("shop:check:0123456789abcdef"),))
    assert health_urls(Health(), api=api)[2:] == ["http://127.0.0.1:8092"], "an API, if it has tokens"
    assert health_urls(Health()) == ["http://127.0.0.1:8090", "http://127.0.0.1:8091"]
    assert health_urls(Health(host="0.0.0.0", port=9000)) == ["http://127.0.0.1:9000"]  # noqa: S104 -- asked, not bound


@pytest.mark.parametrize(
    ("host", "urls"),
    [
        ("127.0.0.1", ["http://127.0.0.1:8090", "http://127.0.0.1:8091"]),
        ("0.0.0.0", ["http://127.0.0.1:8090", "http://127.0.0.1:8091"]),  # noqa: S104 -- looked up, not bound
        ("::1", ["http://[::1]:8090", "http://[::1]:8091"]),
        ("::", ["http://[::1]:8090", "http://[::1]:8091"]),
    ],
)
def test_an_ipv6_host_has_brackets_in_a_url(host: str, urls: list[str]) -> None:
    """And every address of the machine is asked at its own."""
    assert health_urls(Health(host=host)) == urls


async def test_a_role_on_ipv6_is_seen() -> None:
    """Its health is served and asked at ::1."""
    place = Health(host="::1", port=free_port())
    check, exposition = health.process_health(
        Metrics(), lambda: health.Readiness(ready=True, parts={"consume": {"state": "up"}})
    )
    async with (
        health.serve(place, check, exposition, default_port=0),
        aiohttp.ClientSession() as session,
    ):
        [seen] = await role_status.ask_all(session, health_urls(place))
    assert (seen.problem, seen.kind, seen.ready) == ("", "worker", True)


async def test_an_api_is_seen_and_says_why_it_is_not_ready() -> None:
    """It has neither a spool nor a consumer, and no broker."""
    place = Health(host="127.0.0.1", port=free_port())
    parts: dict[str, dict[str, object]] = {
        "database": {"state": "down", "reason": "it does not answer"},
        "tokens": {"valid": 1},
    }
    check, exposition = health.process_health(Metrics(), lambda: health.Readiness(ready=False, parts=parts))
    async with (
        health.serve(place, check, exposition, default_port=0),
        aiohttp.ClientSession() as session,
    ):
        [seen] = await role_status.ask_all(session, health_urls(place))
    assert (seen.kind, seen.ready, seen.reasons) == ("api", False, ("database: it does not answer",))


async def test_a_receiver_whose_every_publish_is_refused_is_not_well() -> None:
    """Its connection is up, and it is ready, for it spools: the reason is told all the same."""
    place = Health(host="127.0.0.1", port=free_port())
    broker: dict[str, object] = {
        "state": "up",
        "reason": "connected",
        "refused": "access to topic 'opened' refused",
    }
    parts: dict[str, dict[str, object]] = {"broker": broker, "spool": {"writable": True, "reason": ""}}
    check, exposition = health.process_health(Metrics(), lambda: health.Readiness(ready=True, parts=parts))
    async with (
        health.serve(place, check, exposition, default_port=0),
        aiohttp.ClientSession() as session,
    ):
        [seen] = await role_status.ask_all(session, health_urls(place))
    assert (seen.kind, seen.ready) == ("receiver", True)
    assert seen.reasons == ("broker: RabbitMQ refuses all publishes: access to topic 'opened' refused",)


async def test_a_receiver_that_gets_no_confirms_is_not_well() -> None:
    """Each process has a spool of its own, so one may know of a name and another not: the names of all count."""
    place = Health(host="127.0.0.1", port=free_port())
    up: dict[str, object] = {"state": "up", "reason": "connected"}
    parts: dict[str, dict[str, object]] = {
        "processes": {
            "0": {"broker": up | {"unconfirmed": ["opened"]}, "spool": {"writable": True}},
            "1": {"broker": up | {"unconfirmed": ["clicked", "opened"]}, "spool": {"writable": True}},
            "2": {"broker": up, "spool": {"writable": True}},
        }
    }
    check, exposition = health.process_health(Metrics(), lambda: health.Readiness(ready=True, parts=parts))
    async with (
        health.serve(place, check, exposition, default_port=0),
        aiohttp.ClientSession() as session,
    ):
        [seen] = await role_status.ask_all(session, health_urls(place))
    assert (seen.kind, seen.ready, seen.unconfirmed) == ("receiver", True, ("clicked", "opened"))
    assert [reason.partition("; ")[0] for reason in seen.reasons] == [
        "processes.0.broker: RabbitMQ confirms no event of these names: opened",
        "processes.1.broker: RabbitMQ confirms no event of these names: clicked, opened",
    ]
