"""The events that are posted: the mix of a real sender, every one of its own, and to whom each message was sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.support.history.mail import Mail, mails
from tests.support.spellings import SPELLINGS

if TYPE_CHECKING:
    from collections.abc import Iterator

KNOWN_MESSAGES: Final = 200_000
"""The simulator knows the messages up to this one."""
ADDRESSES: Final = 100
"""Recipients, so that each has several bounces."""
_SPELT_AT: Final = 1_539_062_173
"""When all events of `SPELLINGS` happened."""


def events(*, spelt_oddly: bool = False) -> Iterator[Mail]:
    """Without end; the number of the message is its id, from 1 on.

    Args:
        spelt_oddly: whether each hard bounce is written in another way than the provider's documentation has it.
    """
    spellings = tuple(SPELLINGS.values())
    for number, mail in enumerate(mails(addresses=ADDRESSES), start=1):
        if spelt_oddly and mail.name == "hard_bounced":
            body = spellings[number % len(spellings)](number)
            yield Mail(mail.message, mail.name, _SPELT_AT, mail.address, body)
        else:
            yield mail
