"""Which events suppress."""

from __future__ import annotations

import pytest

from bridge import events
from bridge.settings.list_sections import Suppression
from bridge.suppression.policy import Policy, Reason, UnsuitableEventError


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


def test_an_unsubscription_suppresses_only_where_the_setting_says_so() -> None:
    """It is off by default, and the only other one that can be switched on."""
    assert Policy().reason_for("unsubscribed") is None
    policy = Policy(["unsubscribed"])
    assert policy.reason_for("unsubscribed") is Reason.UNSUBSCRIBE
    assert policy.reason_for("hard_bounced") is None


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
