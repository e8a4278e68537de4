"""One spelling for each mailbox."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bridge.suppression.addresses import InvalidAddressError, normalise

SPELLINGS = [
    ("jane@example.org", "jane@example.org"),
    ("  jane@example.org\r\n", "jane@example.org"),
    ("Jane.DOE@Example.ORG", "jane.doe@example.org"),
    ("jane+News@example.org", "jane+news@example.org"),
    ("j.a.n.e@gmail.com", "j.a.n.e@gmail.com"),
    ("jane@BÜCHER.example", "jane@xn--bcher-kva.example"),
    ("jane@XN--BCHER-KVA.example", "jane@xn--bcher-kva.example"),
    ("jane@пример.рф", "jane@xn--e1afmkfd.xn--p1ai"),
    ("jane@faß.example", "jane@xn--fa-hia.example"),
    ("jane@example。org", "jane@example.org"),
    ("ИВАН@example.org", "иван@example.org"),
    ("Jose\u0301@example.org", "jos\u00e9@example.org"),
    ('"Jane Doe"@example.org', '"jane doe"@example.org'),
    ('"jane"@example.org', "jane@example.org"),
    ("jane@mail.example.test", "jane@mail.example.test"),
]

NO_ADDRESSES = [
    "",
    "   ",
    "jane",
    "@example.org",
    "jane@",
    "jane@@example.org",
    "jane@example..org",
    "jane.@example.org",
    "ja ne@example.org",
    "jane@exa mple.org",
    "jane@localhost",
    "jane@example.invalid",
    "Jane <jane@example.org>",
    "jane@example.org, joe@example.org",
    "jane@[192.0.2.1]",
    "jane\x00@example.org",
    "jane@" + "a" * 64 + ".org",
    "j" * 243 + "@example.org",
    # 254 bytes as given; in lower case this letter is a byte longer.
    "\u023a" * 121 + "@example.org",
    "jane\udcff@example.org",
]


@pytest.mark.parametrize(("given_as", "normal"), SPELLINGS)
def test_each_spelling_of_a_mailbox_becomes_one(given_as: str, normal: str) -> None:
    """Case, blanks and the domain's script do not matter; tags and dots do."""
    assert normalise(given_as) == normal


@pytest.mark.parametrize("text", NO_ADDRESSES)
def test_what_is_no_address_is_refused_with_a_reason(text: str) -> None:
    """The reason does not hold the address, which logs may have to hide."""
    with pytest.raises(InvalidAddressError, match=r"^not an e-mail address: .{10,}") as refusal:
        normalise(text)
    assert "jane" not in str(refusal.value)


def test_a_huge_text_is_refused_before_it_costs_anything() -> None:
    """A megabyte in the place of an address is only measured."""
    with pytest.raises(InvalidAddressError, match="more than 254 characters"):
        normalise("a" * 1_000_000 + "@example.org")


LETTERS = st.characters(exclude_categories=())
ADDRESSES = st.one_of(
    st.emails(),
    st.text(LETTERS, max_size=40),
    st.builds(
        "{}@{}.org".format,
        st.text(LETTERS, min_size=1, max_size=20),
        st.text(LETTERS, min_size=1, max_size=20),
    ),
    st.builds('"{}"@example.org'.format, st.text(LETTERS, max_size=20)),
    st.builds(
        "{}@{}".format,
        st.text("aA.+-İKΣςßǅéΩ\u0301\u0307\u0345", min_size=1, max_size=130),
        st.sampled_from(["example.org", "BÜCHER.example", "xn--bcher-kva.example"]),
    ),
)


@given(ADDRESSES)
@example("İ@example.org")
@example("A\u0345@example.org")
@example("\u1fbc@example.org")
def test_a_normal_spelling_is_its_own_normal_spelling(address: str) -> None:
    """Whatever text comes, it is refused as an address, or its spelling is stable: trimmed, ASCII domain."""
    try:
        normal = normalise(address)
    except InvalidAddressError:
        return
    assert normalise(normal) == normal
    domain = normal.rpartition("@")[2]
    assert domain.isascii()
    assert domain == domain.lower()


@given(st.emails())
def test_case_never_makes_another_entry(address: str) -> None:
    """An ASCII address and its upper-case spelling are one."""
    try:
        normal = normalise(address)
    except InvalidAddressError:  # a domain that can have no mailbox
        return
    assert normalise(f"  {address.upper()} ") == normal
