"""When a channel that is nacked all the time is replaced."""

from __future__ import annotations

from bridge.amqp.nack_monitor import NackMonitor


def replaced(watch: NackMonitor, seconds: range, nacking: dict[str, float]) -> list[int]:
    """The seconds at which it says that the channel is to be replaced."""
    return [now for now in seconds if watch.keys_nacked_too_long(nacking, now)]


def test_a_channel_is_replaced_later_and_later_while_that_is_of_no_help() -> None:
    """After 10 s of nacks, then 10, 20, 40 s later and so on, up to 10 min."""
    watch = NackMonitor()
    at = replaced(watch, range(3600), {"clicked": 0.0})
    assert at[:5] == [11, 21, 41, 81, 161]
    assert at[-1] - at[-2] == 600


def test_short_nacks_are_no_reason() -> None:
    """A queue that takes some and rejects some does so on each channel."""
    watch = NackMonitor()
    assert not any(watch.keys_nacked_too_long({"clicked": now - 9.0}, now) for now in range(100))


def test_when_it_has_helped_the_pauses_begin_anew() -> None:
    """Or when somebody knows that it will help, there is none."""
    watch = NackMonitor()
    assert replaced(watch, range(100), {"clicked": 0.0}) == [11, 21, 41, 81]
    assert replaced(watch, range(100, 300), {}) == []
    assert replaced(watch, range(300, 400), {"clicked": 300.0})[:3] == [311, 321, 341]
    watch.allow_now()
    assert watch.keys_nacked_too_long({"clicked": float("-inf")}, 401) == ["clicked"]
