"""Under which key an address stands in the tables. Everything that stores or looks up an address asks here."""

from __future__ import annotations

import hmac
import re
from typing import TYPE_CHECKING, Final, NamedTuple

from bridge.suppression.addresses import normalise

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bridge.settings.list_sections import Suppression

SCHEME: Final = "hmac-sha256"
"""The first part of a keyed hash; the id of the key and 64 hexadecimal digits follow, with colons between."""

_HASH: Final = re.compile(rf"{SCHEME}:(?P<id>[A-Za-z0-9._-]+):[0-9a-f]{{64}}")
_PREFIX: Final = f"{SCHEME}:"


class PrivacyKey(NamedTuple):
    """A key of `suppression.privacy_keys`."""

    id: str
    secret: bytes

    def hash(self, normalised: str) -> str:
        """HMAC-SHA-256 of a normalised address in UTF-8, as it is stored: `hmac-sha256:<id>:<hex>`."""
        digest = hmac.digest(self.secret, normalised.encode(), "sha256")
        return f"{_PREFIX}{self.id}:{digest.hex()}"


class AddressKeys:
    """Without privacy keys: each address stands under its normalised spelling.

    A keyed hash, as `written` may return it, is taken for an address by every method, and stays what it is.
    """

    hashes = False
    """Whether addresses are kept as keyed hashes only."""
    privacy_keys: tuple[PrivacyKey, ...] = ()

    def written(self, address: str) -> str:
        """The key under which an address is stored.

        Args:
            address: in any spelling, or a key that this method has returned.

        Raises:
            InvalidAddressError: it is not an address.
        """
        return address if is_hash(address) else normalise(address)

    def looked_up(self, address: str) -> tuple[str, ...]:
        """Every key under which an address may stand: at least the one of `written`, which is the first.

        Raises:
            InvalidAddressError: it is not an address.
        """
        return (self.written(address),)

    def further_keys(self, normalised: Iterable[str]) -> dict[str, str]:
        """The keys under which these addresses, which are normalised, may stand besides; each with its address."""
        del normalised
        return {}


class KeyedAddresses(AddressKeys):
    """With privacy keys. An address stands under its hash by the first of them if only hashes are kept, or if it was erased.

    It may still stand under the hash by another key, where the keys have been changed, or in plain text, where only
    hashes are kept since then.
    """

    def __init__(self, privacy_keys: Sequence[PrivacyKey], *, hashes: bool) -> None:
        """Args: the keys, the one that is used for new hashes first; whether only hashes are kept."""
        self.privacy_keys = tuple(privacy_keys)
        self.hashes = hashes

    def written(self, address: str) -> str:
        key = super().written(address)
        return self.privacy_keys[0].hash(key) if self.hashes and not is_hash(key) else key

    def looked_up(self, address: str) -> tuple[str, ...]:
        return self._keys_of(super().written(address))

    def further_keys(self, normalised: Iterable[str]) -> dict[str, str]:
        plain = [one for one in normalised if not is_hash(one)]
        return {key.hash(address): address for address in plain for key in self.privacy_keys}

    def _keys_of(self, plain: str) -> tuple[str, ...]:
        if is_hash(plain):
            return (plain,)
        hashed = [key.hash(plain) for key in self.privacy_keys]
        return (*hashed, plain) if self.hashes else (plain, *hashed)


PLAIN: Final = AddressKeys()


def keys_of(settings: Suppression) -> AddressKeys:
    """The keys under which the addresses of this list stand."""
    given = [one.get_secret_value().partition(":") for one in settings.privacy_keys]
    if not given:
        return PLAIN
    keys = [PrivacyKey(key_id, secret.encode()) for key_id, _, secret in given]
    return KeyedAddresses(keys, hashes=settings.privacy == "hmac")


def is_hash(text: str) -> bool:
    """Whether it is a keyed hash, and no address."""
    return text.startswith(_PREFIX) and _HASH.fullmatch(text) is not None


def key_id_of(text: str) -> str | None:
    """The id of the privacy key by which this hash was made; None for an address in plain text."""
    found = _HASH.fullmatch(text)
    return found["id"] if found else None


def domain_of(key: str) -> str:
    """The domain of a normalised address; empty where only a hash of the address is known."""
    return "" if is_hash(key) else key.rpartition("@")[2]
