"""Schedules of faults: the same seed is the same schedule, and none asks for more than is promised."""

from __future__ import annotations

import hashlib
from itertools import product

import orjson
import pytest

from tests.programs.chaos import schedule
from tests.programs.chaos.schedule import ALL, Fault

SEEDS = range(300)
SECONDS = 12.0


@pytest.mark.parametrize("nodes", [1, 3])
def test_a_seed_has_one_schedule(nodes: int) -> None:
    """Drawn twice it is the same, and another seed has another one."""
    drawn = [schedule.draw(seed, seconds=SECONDS, nodes=nodes) for seed in SEEDS]
    assert drawn == [schedule.draw(seed, seconds=SECONDS, nodes=nodes) for seed in SEEDS]
    assert len({tuple(one) for one in drawn}) == len(SEEDS)


def test_seeds_mean_the_same_on_every_machine() -> None:
    """A seed that is named in a report is the same schedule elsewhere: a change of this is a change of all of them."""
    drawn = [
        schedule.as_json(schedule.draw(seed, seconds=SECONDS, nodes=nodes))
        for seed in SEEDS
        for nodes in (1, 3)
    ]
    assert hashlib.sha256(orjson.dumps(drawn)).hexdigest()[:16] == "f936dbf0c087fc9a"


@pytest.mark.parametrize("nodes", [1, 3])
def test_every_kind_is_drawn(nodes: int) -> None:
    """With each target and each argument."""
    drawn = {
        (one.kind, one.target, one.argument)
        for seed in range(1200)
        for one in schedule.draw(seed, seconds=SECONDS, nodes=nodes)
    }
    expected = {
        (name, target, argument)
        for name, kind in schedule.kinds(nodes).items()
        for target, arguments in kind.targets.items()
        for argument in arguments
    }
    assert drawn == expected


def test_faults_begin_within_the_load_and_end() -> None:
    """By time, none in the last quarter, each as long as its kind may be."""
    kinds = schedule.kinds()
    for seed, seconds in product(SEEDS, (6.0, SECONDS, 600.0)):
        drawn = schedule.draw(seed, seconds=seconds)
        assert len(drawn) >= 3
        assert drawn == sorted(drawn)
        for one in drawn:
            assert 0 <= one.at <= seconds * 0.75
            assert one.seconds <= max(kinds[one.kind].longest, kinds["full disk"].longest)


def test_a_longer_schedule_has_more_faults() -> None:
    assert len(schedule.draw(1, seconds=600)) > 10 * len(schedule.draw(1, seconds=SECONDS))


@pytest.mark.parametrize("nodes", [1, 3])
def test_no_schedule_asks_for_more_than_is_promised(nodes: int) -> None:
    """What fills a queue again is a stream: its end is not promised after a power cut of RabbitMQ."""
    brokers = {ALL, *(f"rabbitmq-{number}" for number in range(nodes))}
    for seed in range(600):
        drawn = schedule.draw(seed, seconds=SECONDS, nodes=nodes)
        deleted = {one.target for one in drawn if one.kind == "delete"}
        died = {one.kind for one in drawn if one.target in brokers}
        assert not (deleted and "power cut" in died)
        assert not ("queue" in deleted and "kill" in died)


def test_a_schedule_is_shown() -> None:
    """A line for each fault, with its time, target and argument."""
    faults = [Fault(1.5, "kill", "worker-1", 2.0), Fault(3.0, "delete", "queue", 0.0, "suppression")]
    first, second = schedule.shown(faults).splitlines()
    assert first.split() == ["1.5", "s", "kill", "worker-1", "for", "2.0", "s"]
    assert second.split() == ["3.0", "s", "delete", "queue", "at", "once", "suppression"]
