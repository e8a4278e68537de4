"""What the provider is made to post: the mix, repeats, disorder, and bodies that are none."""

from __future__ import annotations

from collections import Counter

import pytest

from bridge import events
from bridge.development.traffic import (
    TYPICAL_MIX,
    BodyKind,
    InvalidMixError,
    Posting,
    Traffic,
    TrafficProfile,
    parse_mix,
)
from bridge.events import KNOWN_NAMES, MalformedError, NotJsonError


def posted(profile: TrafficProfile, count: int, *, seed: int = 1) -> list[Posting]:
    traffic = Traffic(profile, seed=seed)
    return [traffic.next() for _ in range(count)]


def numbers(shots: list[Posting]) -> list[int]:
    return [int(events.parse(shot.body).message_id) for shot in shots]


def test_the_typical_mix_has_every_event_in_both_spellings() -> None:
    """All eight that are documented; each event is about the next message."""
    shots = posted(TrafficProfile(), 5000)
    assert {shot.name for shot in shots} == set(TYPICAL_MIX) == KNOWN_NAMES | {"complined"}
    assert {events.parse(shot.body).name for shot in shots} == KNOWN_NAMES
    assert numbers(shots) == list(range(1, 5001))


def test_a_mix_is_kept_to() -> None:
    """Names come as often as their weights say; a name that nobody knows may be among them."""
    counts = Counter(
        shot.name
        for shot in posted(TrafficProfile(parse_mix(["opened=3,brand_new", "skipped=0.0001"])), 4000)
    )
    assert 2800 < counts["opened"] < 3200
    assert counts["opened"] + counts["brand_new"] + counts["skipped"] == 4000
    assert counts["skipped"] < 10


@pytest.mark.parametrize("text", ["=1", "opened=", "opened=x", "opened=0", "opened=nan", "opened=inf", ","])
def test_a_mix_that_cannot_be_read_is_refused(text: str) -> None:
    """With the part that is wrong. `opened=` is one, as `opened` is."""
    if text == "opened=":
        assert parse_mix([text]) == {"opened": 1}
        return
    with pytest.raises(InvalidMixError, match="is not an item of a mix"):
        parse_mix([text])


def test_repeats_are_the_same_to_the_byte() -> None:
    """So many as were asked for; only of what was posted before."""
    shots = posted(TrafficProfile(duplicates=0.3), 2000)
    seen: set[bytes] = set()
    repeats = 0
    for shot in shots:
        repeats += shot.body in seen
        seen.add(shot.body)
    assert 500 < repeats < 700


@pytest.mark.parametrize("share", [0.2, 1.0])
def test_disorder_lets_later_events_overtake_and_loses_none(share: float) -> None:
    """Each comes once, and by no more than 50 places too late."""
    order = numbers(posted(TrafficProfile(disorder=share), 1000))
    assert order != sorted(order)
    assert len(set(order)) == 1000
    assert set(range(1, 900)) <= set(order)


def test_malformed_bodies_are_what_they_are_said_to_be() -> None:
    """What is no JSON is refused by the parser, and what is no event is read as malformed."""
    kinds = Counter(shot.kind for shot in posted(TrafficProfile(malformed=0.5), 1000))
    assert 150 < kinds[BodyKind.NOT_JSON] < 350
    assert 150 < kinds[BodyKind.NO_EVENT] < 350
    for shot in posted(TrafficProfile(malformed=1), 200):
        with pytest.raises(NotJsonError if shot.kind is BodyKind.NOT_JSON else MalformedError):
            events.parse(shot.body)


def test_a_seed_is_the_same_traffic_again() -> None:
    """Names, order and kinds; another seed is another one."""
    profile = TrafficProfile(duplicates=0.1, disorder=0.1, malformed=0.1)
    shapes = [[(shot.kind, shot.name) for shot in posted(profile, 300, seed=seed)] for seed in (1, 1, 2)]
    assert shapes[0] == shapes[1] != shapes[2]
