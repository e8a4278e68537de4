"""One spelling for each mailbox, so that `Jane@Example.ORG` and `jane@example.org` are one entry."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import idna

from bridge.suppression.mailboxes import mailbox_candidates

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MAX_ADDRESS_LENGTH: Final = 320
"""Characters of an address: 64 before the @-sign, and 255 after it."""
MAX_TEXT_LENGTH: Final = 4000
"""The maximum length, in characters, of a text with an address in it, with display names and comments."""


class InvalidAddressError(ValueError):
    """The text is not an e-mail address. The message says why, and does not repeat the address."""


class SeveralAddressesError(InvalidAddressError):
    """The text has more than one mailbox, and nobody knows which of them is meant."""


# Nearly all addresses are so plain that they need no more than lower case. Without IGNORECASE a match takes half the time.
_PLAIN_ADDRESS: Final = r"[a-zA-Z0-9.!#$%&'*+/=?^_`{|}~-]++@[a-zA-Z0-9_-]++(?:\.[a-zA-Z0-9_-]++)*+"
_PLAIN: Final = re.compile(_PLAIN_ADDRESS)
_PLAIN_LINES: Final = re.compile(rf"(?:{_PLAIN_ADDRESS}\n)*+")

_CONTROLS: Final = r"\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffd"
"""What is in no address: control characters, and what is left of bytes that are no text."""
_UNSTORABLE: Final = re.compile(r"[\x00\ud800-\udfff]")
"""What no database takes: in a name, too, since all that was written is kept beside the key."""
_FORBIDDEN: Final = re.compile(f"[{_CONTROLS}]")
_SPECIAL: Final = re.compile(rf'[{_CONTROLS}\s()<>\[\]:;@\\,"]')
"""Characters that no domain has, and that the part before the @-sign has only in quotes."""
_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\.)*+)"')
_ESCAPED: Final = re.compile(r"\\(.)")
_LITERAL: Final = re.compile(r"\[[!-Z^-~]+\]")
"""A host by its number, `[192.0.2.1]`."""


# Whoever checks an address before it is recorded has it done twice.
@lru_cache(maxsize=1024)
def normalise(address: str) -> str:
    """The spelling of an address on the list. Normalising a result again does not change it.

    The mailbox is taken out of header syntax (`"Jane" <jane@example.org>`). Its domain becomes lower-case IDNA
    (`xn--…`) without the dot at its end; before the @-sign case is folded, letter by letter, and quotes go where they
    are not needed. Tags (`+news`) and dots stay, since only some providers ignore them. Nobody is asked whether there
    is such a domain, and no rule of what a mailbox may be called is kept: what mail was sent to can be on the list.

    Raises:
        SeveralAddressesError: there is more than one.
        InvalidAddressError: it is no address.
    """
    text = address.strip()
    if len(text) <= MAX_ADDRESS_LENGTH and _PLAIN.fullmatch(text):
        return text.lower()
    if len(text) > MAX_TEXT_LENGTH:
        raise InvalidAddressError(f"not an e-mail address: it has more than {MAX_TEXT_LENGTH} characters")
    if _UNSTORABLE.search(text):
        raise InvalidAddressError(
            "not an e-mail address: it has characters that cannot be stored (NUL, or half of a pair)"
        )
    found = set(_keys(unicodedata.normalize("NFC", text)))
    if not found:
        raise InvalidAddressError("not an e-mail address: it is empty")
    if len(found) > 1:
        raise SeveralAddressesError(f"not one e-mail address, but {len(found)}")
    return found.pop()


def normalise_many(addresses: Sequence[str]) -> list[str | InvalidAddressError]:
    """The spelling of each on the list, in order, or why it is no address.

    Where all of them are plain it is one match for all of them.
    """
    lines = "\n".join(addresses) + "\n"
    if max(map(len, addresses), default=0) <= MAX_ADDRESS_LENGTH and _PLAIN_LINES.fullmatch(lines):
        plain = lines.lower().split("\n")[:-1]
        if len(plain) == len(addresses):  # else one of them has more than one line
            return list(plain)
    return [_normalised(address) for address in addresses]


def _normalised(address: str) -> str | InvalidAddressError:
    try:
        return normalise(address)
    except InvalidAddressError as error:
        return error


def normalise_domain(domain: str) -> str:
    """The spelling of a domain on the list: lower-case IDNA, without an @-sign in front of it or a dot at its end.

    Raises:
        InvalidAddressError: it is no domain.
    """
    return _domain(domain.strip().removeprefix("@"))


def folded(text: str) -> str:
    """The spelling that letters have on the list, of a part of an address, too: lower case, one form of each character."""
    return unicodedata.normalize("NFC", "".join(map(_folded_letter, text)))


def _keys(text: str) -> Iterator[str]:
    doubt: InvalidAddressError | None = None
    for candidate in mailbox_candidates(text):
        if doubt is not None and not candidate.bracketed:
            raise doubt
        try:
            yield _key(candidate.text)
        except InvalidAddressError as error:
            if candidate.bracketed:
                raise
            doubt = error  # unless it belongs to a name in front of brackets, as in `Doe, Jane <jane@example.org>`
        else:
            doubt = None
    if doubt is not None:
        raise doubt


def _key(mailbox: str) -> str:
    local, at, domain = mailbox.strip().rpartition("@")
    if not at:
        raise InvalidAddressError("not an e-mail address: it has no @-sign")
    key = f"{_local(local)}@{_domain(domain)}"
    if len(key) > MAX_ADDRESS_LENGTH:
        raise _too_long()
    return key


def _local(text: str) -> str:
    if _SPECIAL.search(_QUOTED.sub("", text)):
        raise InvalidAddressError("not an e-mail address: a character before the @-sign cannot be there")
    name = folded(_QUOTED.sub(lambda quoted: _ESCAPED.sub(r"\1", quoted[1]), text))
    if not name:
        raise InvalidAddressError("not an e-mail address: nothing stands before the @-sign")
    if _FORBIDDEN.search(name):
        raise InvalidAddressError("not an e-mail address: it has a control character")
    if not _SPECIAL.search(name):
        return name
    escaped = name.replace("\\", r"\\").replace('"', r"\"")
    return f'"{escaped}"'


def _domain(text: str) -> str:
    if len(text) > MAX_ADDRESS_LENGTH:
        raise _too_long()
    if _LITERAL.fullmatch(text):
        return text.lower()
    mapped = _mapped(text).rstrip(".")
    if not mapped:
        raise InvalidAddressError("not an e-mail address: no domain stands after the @-sign")
    if _SPECIAL.search(text) or _SPECIAL.search(mapped):
        raise InvalidAddressError("not an e-mail address: a character after the @-sign cannot be there")
    return ".".join(map(_label, mapped.split(".")))


def _mapped(domain: str) -> str:
    """As UTS 46 has it: lower case, and what looks like a dot is one."""
    if domain.isascii():
        return domain.lower()
    try:
        return idna.uts46_remap(domain, std3_rules=False, transitional=False)
    except idna.IDNAError:
        return folded(domain)


def _label(label: str) -> str:
    if label.isascii():
        return label
    try:
        return idna.alabel(label).decode()
    except idna.IDNAError:  # there are domains with emoji, whatever the standard says
        return f"xn--{label.encode('punycode').decode()}"


def _folded_letter(letter: str) -> str:
    """Unicode's simple case folding: the two small sigmas are the same letter, `ß` is not `ss`."""
    folded = letter.casefold()
    return folded if len(folded) == 1 else letter.lower()


def _too_long() -> InvalidAddressError:
    return InvalidAddressError(f"not an e-mail address: it has more than {MAX_ADDRESS_LENGTH} characters")
