"""What counts as an alert that was raised, and as one that should not have been. No Docker is needed for it."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from tests.programs.stack.alerts import Expected, Firing, Watch
from tests.programs.stack.proofs import Fault, proofs

AWAY = Expected("BridgeWorkerAway")
SILENT = Expected("BridgeNoWorker", (("queue", "suppression"),))
RESTARTED = Expected("BridgeRoleRestarted", (("job", "worker"),))


def firing(name: str, began: float, ended: float | None, **labels: str) -> Firing:
    return Firing(name, {"alertname": name, "severity": "critical", **labels}, began, ended)


def test_an_alert_is_proven_by_a_firing_after_the_fault_that_ends() -> None:
    """It clears while the fault is mended, or a while later."""
    faults = [Fault("kill it", (AWAY,), 100.0, 200.0), Fault("kill it again", (AWAY,), 500.0, 600.0)]
    seen = [firing("BridgeWorkerAway", 170.0, 230.0), firing("BridgeWorkerAway", 560.0, 590.0)]
    first, second = proofs(faults, seen)
    assert (first.fired, first.cleared, first.wrong) == (70.0, 30.0, "")
    assert (second.fired, second.cleared, second.wrong) == (60.0, 0.0, "")


def test_what_the_next_fault_of_its_kind_raises_is_no_proof_of_the_one_before() -> None:
    """The first one has stayed silent, and is not merely late."""
    faults = [Fault("kill it", (AWAY,), 100.0, 110.0), Fault("kill it again", (AWAY,), 250.0, 260.0)]
    first, second = proofs(faults, [firing("BridgeWorkerAway", 274.0, 290.0)])
    assert first.wrong == "has not fired"
    assert (second.fired, second.wrong) == (24.0, "")


def test_an_alert_that_is_silent_late_or_stays_is_wrong() -> None:
    """Each is said as it is."""
    fault = Fault("kill it", (AWAY,), 100.0, 300.0)
    assert proofs([fault], [])[0].wrong == "has not fired"
    assert proofs([fault], [firing("BridgeWorkerAway", 50.0, 90.0)])[0].wrong == "has not fired"
    assert proofs([fault], [firing("BridgeWorkerAway", 230.0, 310.0)])[0].wrong == "fired only after 130 s"
    assert proofs([fault], [firing("BridgeWorkerAway", 170.0, None)])[0].wrong == "does not clear"


def test_an_alert_must_have_the_labels_of_the_fault() -> None:
    """That another role was restarted proves nothing."""
    fault = Fault("restart worker", (RESTARTED,), 100.0, 110.0)
    assert (
        proofs([fault], [firing("BridgeRoleRestarted", 120.0, 130.0, job="api")])[0].wrong == "has not fired"
    )
    one = firing("BridgeRoleRestarted", 120.0, 130.0, job="worker", instance="10.0.0.3:8091")
    [proof] = proofs([fault], [one])
    assert proof.alert == "BridgeRoleRestarted (job=worker)"
    assert proof.wrong == ""


def test_what_is_no_fault_raises_nothing() -> None:
    """But an outage may have consequences, and what is over in a moment wakes nobody."""
    scaled = Fault("scale workers", (), 0.0, 90.0)
    restarted = Fault("restart worker", (RESTARTED,), 100.0, 110.0)
    killed = Fault("kill it", (AWAY, SILENT), 200.0, 300.0)
    expected = [
        firing("BridgeRoleRestarted", 115.0, 190.0, job="worker"),
        firing("BridgeWorkerAway", 270.0, 310.0),
        firing("BridgeNoWorker", 260.0, 310.0, queue="suppression"),
    ]
    beside = [
        firing("BridgeNoWorker", 50.0, 60.0, queue="crm"),
        firing("BridgeRefusesEvents", 55.0, 60.0),
        firing("BridgeNoWorker", 130.0, 140.0, queue="crm"),
        firing("BridgeNoWorker", 280.0, 290.0, queue="crm"),
    ]
    found = proofs([scaled, restarted, killed], [*expected, *beside])
    assert [(one.fault, one.alert, one.wrong) for one in found if not one.expected] == [
        ("scale workers", "BridgeNoWorker (queue=crm)", "fired though nothing was wrong"),
        ("scale workers", "BridgeRefusesEvents", ""),
        ("restart worker", "BridgeNoWorker (queue=crm)", "wakes somebody for what is over in a moment"),
        ("kill it", "BridgeNoWorker (queue=crm)", ""),
    ]
    assert [one.wrong for one in found if one.expected] == ["", "", ""]
    assert proofs([], beside) == []


async def test_what_fires_is_followed_from_look_to_look() -> None:
    """An alert that waits out its time does not fire yet; the same name with other labels is another one."""
    watch = Watch()
    watch.take(answer(("BridgeWorkerAway", "pending")), at=1.0)
    assert watch.seen == []
    watch.take(answer(("BridgeWorkerAway", "firing")), at=2.0)
    watch.take(answer(("BridgeWorkerAway", "firing"), ("BridgeApiAway", "firing")), at=3.0)
    assert watch.firing([AWAY, RESTARTED]) == [AWAY]
    watch.take(answer(("BridgeApiAway", "firing")), at=4.0)
    assert [(one.name, one.began, one.ended) for one in watch.seen] == [
        ("BridgeWorkerAway", 2.0, 4.0),
        ("BridgeApiAway", 3.0, None),
    ]
    await watch.clear([AWAY], until=time.monotonic() + 60)
    await watch.fire([AWAY], until=time.monotonic() - 1)
    async with asyncio.timeout(60):
        await watch.fire([Expected("BridgeApiAway")], until=time.monotonic() + 60)


def answer(*alerts: tuple[str, str]) -> dict[str, Any]:
    """Of Prometheus."""
    return {"data": {"alerts": [{"labels": {"alertname": name}, "state": state} for name, state in alerts]}}
