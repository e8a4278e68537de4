"""Which events suppress."""

from __future__ import annotations

import pytest

from bridge import events
from bridge.settings.list_sections import Suppression
from bridge.suppression.policy import Policy, Reason, SoftBounceRule, UnsuitableEventError


def test_by_default_exactly_hard_bounces_and_complaints_suppress() -> None:
    """Of all eight events, two; under the reasons that the list is keyed by."""
    policy = Policy()
    suppressing = {name: policy.reason_for(name) for name in events.KNOWN_NAMES if policy.reason_for(name)}
    assert suppressing == {"hard_bounced": Reason.HARD_BOUNCE, "complained": Reason.COMPLAINT}


def test_the_default_of_the_settings_is_the_default_policy() -> None:
    """Two places say it, and they agree."""
    assert Policy(Suppression().events).event_names == Policy().event_names


@pytest.mark.parametrize("name", ["complained", "complined"])
def test_both_spellings_of_the_complaint_suppress(name: str) -> None:
    """In the event as in the setting."""
    assert Policy().reason_for(name) is Reason.COMPLAINT
    assert Policy([name]).event_names == ("complained",)
    assert Policy([name]).reason_for("complained") is Reason.COMPLAINT


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("unsubscribed", Reason.UNSUBSCRIBE),
        ("skipped", Reason.SKIPPED),
        ("soft_bounced", Reason.SOFT_BOUNCE),
    ],
)
def test_another_event_suppresses_only_where_the_setting_says_so(name: str, reason: Reason) -> None:
    """These are off by default."""
    assert Policy().reason_for(name) is None
    policy = Policy([name])
    assert policy.reason_for(name) is reason
    assert policy.reason_for("hard_bounced") is None


def test_deliveries_are_used_only_where_soft_bounces_are() -> None:
    """The policy says so, and the settings say which events the worker's queue is bound to."""
    assert not Policy().uses_delivery("delivered")
    assert Suppression().used_events == ("hard_bounced", "complained")
    settings = Suppression(events=("soft_bounced", "complained"))
    assert settings.used_events == ("soft_bounced", "complained", "delivered")
    policy = Policy.of(settings)
    assert [name for name in events.KNOWN_NAMES if policy.uses_delivery(name)] == ["delivered"]


def test_an_event_suppresses_from_its_own_time_on_for_as_long_as_the_settings_say() -> None:
    """Without a setting for good, and a complaint always."""
    policy = Policy.of(Suppression(hard_bounce_expiry=100, unsubscribe_expiry=200, skip_expiry=300))
    ends = {reason: policy.expires_at(reason, 1000) for reason in Reason}
    assert {reason: end for reason, end in ends.items() if end is not None} == {
        Reason.HARD_BOUNCE: 1100,
        Reason.UNSUBSCRIBE: 1200,
        Reason.SKIPPED: 1300,
    }
    assert all(Policy().expires_at(reason, 1000) is None for reason in Reason)
    assert Policy(expiry={Reason.COMPLAINT: 1}).expires_at(Reason.COMPLAINT, 1000) is None


def test_each_further_time_soft_bounces_suppress_longer_up_to_the_maximum() -> None:
    """However often it was."""
    rule = SoftBounceRule(expiry=100, factor=2.5, expiry_max=1000)
    assert [rule.seconds(earlier) for earlier in (0, 1, 2, 3, 99, 10**9)] == [100, 250, 625, 1000, 1000, 1000]
    assert SoftBounceRule(expiry=100, factor=1, expiry_max=1000).seconds(10**9) == 100


def test_the_defaults_of_the_settings_are_those_of_the_rule() -> None:
    """Two places say them, and they agree."""
    assert Policy.of(Suppression()).soft_bounces == SoftBounceRule()


@pytest.mark.parametrize("name", ["", "hard_bounce", "not_hard_bounced", "something_new", "malformed"])
def test_an_unknown_name_never_suppresses(name: str) -> None:
    """A name that merely resembles one that suppresses is another name."""
    assert Policy(["hard_bounced", "complained", "unsubscribed"]).reason_for(name) is None


def test_an_event_that_cannot_suppress_is_refused_by_name() -> None:
    """The message names the setting, the event and what may stand there."""
    with pytest.raises(
        UnsuitableEventError, match=r"suppression\.events: 'opened' .* hard_bounced, complained"
    ):
        Policy(["hard_bounced", "opened"])
