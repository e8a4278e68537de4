"""One spelling for each mailbox, so that `Jane@Example.ORG` and `jane@example.org` are one entry."""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import Final

from email_validator import EmailNotValidError, validate_email

LONGEST: Final = 254
"""Characters of an address: RFC 5321, 4.5.3.1.3, allows a path of 256 with its angle brackets."""


class InvalidAddressError(ValueError):
    """The text is no e-mail address. Its message is the reason; it does not repeat the address."""


# Some 12 us; whoever checks an address before it is recorded has it done twice.
@lru_cache(maxsize=1024)
def normalise(address: str) -> str:
    """The spelling under which an address stands on the list; a result given in again comes out as it is.

    Trimmed; the domain in lower-case IDNA (`xn--…`), the local part in lower case; tags (`+news`) and dots stay,
    since only some providers ignore them. No DNS is asked.

    Raises:
        InvalidAddressError: it is no address, or its domain can have no mailbox (`localhost`, `.invalid`).
    """
    normal = _canonical(address.strip())
    if not normal.isascii():
        # Lower case may be longer in UTF-8, or compose anew: only what passes once more can be looked up again.
        normal = _canonical(normal)
    return normal


def _canonical(address: str) -> str:
    if len(address) > LONGEST:
        raise InvalidAddressError(f"not an e-mail address: it has more than {LONGEST} characters")
    try:
        # The "test environment" of the library is what lets `.test` (RFC 2606) pass; nothing else hangs on it.
        valid = validate_email(
            address, check_deliverability=False, test_environment=True, allow_quoted_local=True
        )
    except EmailNotValidError as refusal:
        raise InvalidAddressError(f"not an e-mail address: {refusal}") from None
    local = unicodedata.normalize("NFC", valid.local_part.lower())
    return f"{local}@{valid.ascii_domain}"
