"""Under which keys an address stands: in plain text, or under its hash by a privacy key."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from pydantic import ValidationError

from bridge.settings.list_sections import Suppression
from bridge.suppression.address_keys import PLAIN, domain_of, is_hash, key_id_of, keys_of
from bridge.suppression.addresses import InvalidAddressError

OLD, NEW = "1" * 32, "2" * 32
JANE = "jane@example.org"


def by(key_id: str, secret: str, address: str = JANE) -> str:
    """As anybody can calculate it who has the key."""
    return f"hmac-sha256:{key_id}:{hmac.new(secret.encode(), address.encode(), hashlib.sha256).hexdigest()}"


def suppression(privacy: str = "hmac", *keys: str) -> Suppression:
    return Suppression.model_validate({"privacy": privacy, "privacy_keys": keys})


def test_only_hashes_are_kept_where_the_settings_say_so() -> None:
    """In whichever spelling: the hash of the normalised address, by the first key; the others are looked up, and what is old."""
    keys = keys_of(suppression("hmac", f"k2:{NEW}", f"k1:{OLD}"))
    assert keys.written(" Jane@EXAMPLE.org") == by("k2", NEW)
    assert keys.looked_up("Jane@example.org") == (by("k2", NEW), by("k1", OLD), JANE)


def test_in_plain_text_hashes_are_looked_up_for_those_who_were_erased() -> None:
    """With keys, after the plain text; without them there is nothing else."""
    assert keys_of(suppression("plain", f"k1:{OLD}")).looked_up(JANE) == (JANE, by("k1", OLD))
    assert keys_of(suppression("plain", f"k1:{OLD}")).written(JANE) == JANE
    assert keys_of(suppression("plain")) is PLAIN
    assert PLAIN.looked_up(JANE) == (JANE,)


@pytest.mark.parametrize("keys", [PLAIN, keys_of(suppression("hmac", f"k1:{OLD}"))], ids=["plain", "hmac"])
def test_a_hash_is_a_key_itself(keys: object) -> None:
    """Whoever has it from the list can ask for it: it is not hashed again."""
    assert isinstance(keys, type(PLAIN))
    stored = by("k9", NEW)
    assert keys.written(stored) == stored
    assert keys.looked_up(stored) == (stored,)
    assert (is_hash(stored), key_id_of(stored), domain_of(stored)) == (True, "k9", "")
    with pytest.raises(InvalidAddressError):
        keys.written("hmac-sha256:k9:abc")


def test_an_address_is_no_hash() -> None:
    """It has a domain, and no key."""
    assert (is_hash(JANE), key_id_of(JANE), domain_of(JANE)) == (False, None, "example.org")


@pytest.mark.parametrize(
    ("privacy", "keys", "complaint"),
    [
        ("hmac", (), "needs suppression.privacy_keys"),
        ("hmac", ("k1",), "written as ID:SECRET"),
        ("plain", (f"k 1:{OLD}",), "written as ID:SECRET"),
        ("plain", ("k1:short",), "32 or more printable ASCII"),
        ("plain", (f"k1:{OLD}", f"k1:{NEW}"), "'k1' is there twice"),
    ],
)
def test_keys_that_would_not_do_are_refused(privacy: str, keys: tuple[str, ...], complaint: str) -> None:
    """At the start, with what to do."""
    with pytest.raises(ValidationError, match=complaint):
        suppression(privacy, *keys)
