"""What other systems call the reasons for which they suppress, and ours."""

from __future__ import annotations

import re
from pathlib import PurePath
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from bridge.suppression.policy import Reason

if TYPE_CHECKING:
    from collections.abc import Mapping

_NO_LETTER: Final = re.compile(r"[^a-z]+")


class UnknownReasonError(ValueError):
    """The text names no reason. The message shows it."""


_NAMES: Final[Mapping[Reason, tuple[str, ...]]] = MappingProxyType(
    {
        # SES: BOUNCE. Postmark: HardBounce. Telnyx: hard_bounce, invalid. SendGrid's files: bounces, invalid emails.
        Reason.HARD_BOUNCE: (
            "bounce", "bounces", "bounced", "hard bounces", "hard bounced", "invalid", "invalid email",
            "invalid emails", "cleaned",
        ),
        # SES: COMPLAINT. Postmark: SpamComplaint. Telnyx: spam_complaint. SendGrid's file: spam reports.
        Reason.COMPLAINT: (
            "complaints", "complained", "spam complaint", "spam complaints", "spam report", "spam reports", "spam",
        ),
        Reason.UNSUBSCRIBE: (
            "unsubscribes", "unsubscribed", "global unsubscribes", "unsubscription",
        ),
        # SendGrid's file: blocks. These are passing failures: SendGrid itself goes on sending to them.
        Reason.SOFT_BOUNCE: ("soft bounces", "soft bounced", "block", "blocks", "blocked"),
        # Postmark: ManualSuppression. Telnyx: manual_block.
        Reason.MANUAL: ("manual suppression", "manual block", "manually"),
    }
)  # fmt: skip


def _letters(text: str) -> str:
    return _NO_LETTER.sub("", text.lower())


_REASONS: Final = {_letters(reason.value): reason for reason in Reason} | {
    _letters(name): reason for reason, names in _NAMES.items() for name in names
}
_LONGEST_FIRST: Final = sorted(_REASONS, key=len, reverse=True)


def reason_of(text: str) -> Reason:
    """Our reason for what a file says; case, blanks, hyphens and underscores do not count.

    Raises:
        UnknownReasonError: it is none that is known.
    """
    try:
        return _REASONS[_letters(text)]
    except KeyError:
        known = ", ".join(reason.value for reason in Reason)
        raise UnknownReasonError(f"'{text[:60]}' is no known reason; ours are {known}") from None


def reason_in_name(name: str) -> Reason | None:
    """The reason that the name of a file gives: `suppression_bounces.csv`, `cleaned_members.csv`. None: it gives none."""
    letters = _letters(PurePath(name).name)  # a folder may have any name
    return next((_REASONS[one] for one in _LONGEST_FIRST if one in letters), None)
