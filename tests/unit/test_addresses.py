"""One spelling for each mailbox."""

from __future__ import annotations

from email.utils import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bridge.suppression.addresses import (
    InvalidAddressError,
    SeveralAddressesError,
    normalise,
    normalise_domain,
    normalise_many,
)

SPELLINGS = [
    ("jane@example.org", "jane@example.org"),
    ("  jane@example.org\r\n", "jane@example.org"),
    ("Jane.DOE@Example.ORG", "jane.doe@example.org"),
    ("jane+News@example.org", "jane+news@example.org"),
    ("j.a.n.e@gmail.com", "j.a.n.e@gmail.com"),
    ("jane@mail.example.test", "jane@mail.example.test"),
    # header syntax
    ('"Bob" <bob@example.org>', "bob@example.org"),
    ("Bob Example <Bob@Example.org>", "bob@example.org"),
    ("<bob@example.org>", "bob@example.org"),
    ("< bob@example.org >", "bob@example.org"),
    ('"Doe, Bob" <bob@example.org>', "bob@example.org"),
    ("Doe, Bob <bob@example.org>", "bob@example.org"),
    ("Bob @ Acme, Inc. <bob@example.org>", "bob@example.org"),
    ('"ann@example.org" <bob@example.org>', "bob@example.org"),
    ("bob@example.org <bob@example.org>", "bob@example.org"),
    ("Bob <3 Ann <bob@example.org>", "bob@example.org"),
    ("Bob :( <bob@example.org>", "bob@example.org"),
    ('Bob "5\\" <bob@example.org>', "bob@example.org"),
    ("Bob\r\n\t<bob@example.org>", "bob@example.org"),
    ("B\ufffdb \x07\u202e <bob@example.org>", "bob@example.org"),
    ("bob@example.org (Bob (the first), ann@example.org)", "bob@example.org"),
    ("bob(his name)@example.org", "bob@example.org"),
    ("<@relay.example,@other.example:bob@example.org>", "bob@example.org"),
    ("bob@example.org,", "bob@example.org"),
    ("bob@example.org; <BOB@example.org>", "bob@example.org"),
    # what comes before the @-sign is text
    ("try..this@docomo.example.jp", "try..this@docomo.example.jp"),
    ("try.@au.example.jp", "try.@au.example.jp"),
    (".try@docomo.example.jp", ".try@docomo.example.jp"),
    ("..@docomo.example.jp", "..@docomo.example.jp"),
    ('"try..this"@docomo.example.jp', "try..this@docomo.example.jp"),
    ('"Jane Doe"@example.org', '"jane doe"@example.org'),
    ('"jane"@example.org', "jane@example.org"),
    (r'"ja\ne"@example.org', "jane@example.org"),
    (r'"a\"b\\c@d"@example.org', r'"a\"b\\c@d"@example.org'),
    ('jane."doe"@example.org', "jane.doe@example.org"),
    ("'jane'/!#$%&*=?^_`{|}~@example.org", "'jane'/!#$%&*=?^_`{|}~@example.org"),
    ("ИВАН@example.org", "иван@example.org"),
    ("Jose\u0301@example.org", "jos\u00e9@example.org"),
    # one letter wherever it stands in the word, and different letters stay different
    ("ΚΣ@example.org", "κσ@example.org"),
    ("κς@example.org", "κσ@example.org"),
    ("κσ@example.org", "κσ@example.org"),
    ("ΣΑΣ.ΣΑΣ@example.org", "σασ.σασ@example.org"),
    ("straße@example.org", "straße@example.org"),
    ("STRAẞE@example.org", "straße@example.org"),
    ("STRASSE@example.org", "strasse@example.org"),
    ("\u0131\u0130I@example.org", "\u0131i\u0307i@example.org"),
    # the domain
    ("jane@BÜCHER.example", "jane@xn--bcher-kva.example"),
    ("jane@XN--BCHER-KVA.example", "jane@xn--bcher-kva.example"),
    ("jane@пример.рф", "jane@xn--e1afmkfd.xn--p1ai"),
    ("jane@faß.example", "jane@xn--fa-hia.example"),
    ("jane@ΣΑΣ.example", "jane@xn--mxa9ab.example"),
    ("jane@example。org", "jane@example.org"),
    ("jane@example.org.", "jane@example.org"),
    ("jane@BÜCHER.example.", "jane@xn--bcher-kva.example"),
    ("jane@my_host.example.org", "jane@my_host.example.org"),
    ("jane@_BÜCHER.example", "jane@xn--_bcher-4ya.example"),
    ("jane@I❤.example", "jane@xn--i-7iq.example"),
    ("jane@xn--i-7iq.example", "jane@xn--i-7iq.example"),
    ("jane@-example-.org", "jane@-example-.org"),
    ("jane@localhost", "jane@localhost"),
    ("jane@example.invalid", "jane@example.invalid"),
    ("jane@example..org", "jane@example..org"),
    ("jane@" + "A" * 64 + ".org", "jane@" + "a" * 64 + ".org"),
    ("jane@[192.0.2.1]", "jane@[192.0.2.1]"),
    ("jane@[IPv6:2001:DB8::1]", "jane@[ipv6:2001:db8::1]"),
    # as long as may be
    ("J" * 308 + "@example.org", "j" * 308 + "@example.org"),
    ("name " * 500 + "<jane@example.org>", "jane@example.org"),
]

NO_ADDRESSES = [
    "",
    "   ",
    "<>",
    ",;",
    "jane",
    '"jane@example.org"',
    "@example.org",
    '""@example.org',
    "jane@",
    "jane@.",
    "jane@\u00ad",
    "jane@@example.org",
    "jane@example.org@example.org",
    "ja ne@example.org",
    "jane:joe@example.org",
    "jane,joe@example.org",
    "jane@exa mple.org",
    "jane@exa\uff20mple.org",
    "jane@[not a number]",
    "jane@example.org>",
    "Jane <jane@example.org",
    "Jane <jane@example.org, Joe <joe@example.org>",
    "Jane Doe jane@example.org",
    "Jane <jane@example.org>, Doe",
    "jane\x00@example.org",
    '"jane\x00"@example.org',
    "Jane\x00 <jane@example.org>",
    "Jane\ud83d <jane@example.org>",
    "jane@exam\x07ple.org",
    "jane\udcff@example.org",
    "jane\ufffd@example.org",
    "j" * 309 + "@example.org",
    "\u0130" * 200 + "@example.org",
    "jane@" + "❤" * 320 + ".org",
]

SEVERAL = [
    "jane@example.org, joe@example.org",
    "jane@example.org;joe@example.org",
    "Jane <jane@example.org>, Joe <joe@example.org>",
    "jane@example.org, Joe <joe@example.org>",
    "<jane@example.org> <joe@example.org>",
    ", ".join(f"jane{number}@example.org" for number in range(150)),
]


@pytest.mark.parametrize(("given_as", "normal"), SPELLINGS)
def test_each_spelling_of_a_mailbox_becomes_one(given_as: str, normal: str) -> None:
    """Case, blanks and the domain's script do not matter; tags and dots do."""
    assert normalise(given_as) == normal


@pytest.mark.parametrize("text", SEVERAL)
def test_two_mailboxes_are_not_one(text: str) -> None:
    """Nobody knows which of them an event is about; that is said in a way of its own."""
    with pytest.raises(SeveralAddressesError, match=r"^not one e-mail address, but \d+$"):
        normalise(text)


@pytest.mark.parametrize("text", NO_ADDRESSES)
def test_what_is_no_address_is_refused_with_a_reason(text: str) -> None:
    """The reason does not hold the address, which logs may have to hide."""
    with pytest.raises(InvalidAddressError, match=r"^not an e-mail address: .{10,}") as refusal:
        normalise(text)
    assert "jane" not in str(refusal.value)
    assert not isinstance(refusal.value, SeveralAddressesError)


def test_a_huge_text_is_refused_before_it_costs_anything() -> None:
    """A megabyte in the place of an address is only measured."""
    with pytest.raises(InvalidAddressError, match="more than 4000 characters"):
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
    st.builds("{}<{}@{}>{}".format, *[st.text(LETTERS, max_size=10)] * 4),
    st.text('ab@.,;:<>()[]"\\ \u0338Σ', max_size=30),
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
@example("a@\u037e.org")
@example('"\\\u0338"@example.org')
def test_a_normal_spelling_is_its_own_normal_spelling(address: str) -> None:
    """Whatever text comes, it is refused as an address, or its spelling is stable; its domain is in ASCII."""
    try:
        normal = normalise(address)
    except InvalidAddressError:
        return
    assert normalise(normal) == normal
    domain = normal.rpartition("@")[2]
    assert domain.isascii()
    assert domain == domain.lower()


def in_another_case(letter: str) -> str:
    """Its capital, unless that is two letters (of `ß`), or another letter's, too (of a dotless `i`)."""
    return letter if len(letter.upper()) != 1 or letter == "\u0131" else letter.upper()


@given(ADDRESSES)
@example("κς@example.org")
@example("ΚΣ@example.org")
def test_case_never_makes_another_entry(address: str) -> None:
    """An address, in any script, and the same in capitals are one."""
    try:
        normal = normalise(address)
    except InvalidAddressError:
        return
    assert normalise("".join(map(in_another_case, normal))) == normal


@given(st.text("abcΣςσßẞé.", min_size=1), st.text("abcΣςσßẞé.", min_size=1))
def test_how_a_letter_is_folded_does_not_hang_on_its_place(one: str, other: str) -> None:
    """What stands beside it makes no difference."""
    apart = [normalise(f"{part}@example.org").removesuffix("@example.org") for part in (one, other)]
    assert normalise(f"{one}{other}@example.org") == f"{''.join(apart)}@example.org"


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30), st.emails())
def test_a_name_in_front_makes_no_difference(name: str, address: str) -> None:
    """As the standard library writes it, whatever the name; but for what no database takes."""
    assert normalise(f'"{quote(name)}" <{address}>') == normalise(address)


def outcome(address: str) -> str:
    """The spelling, or why it is none."""
    try:
        return normalise(address)
    except InvalidAddressError as error:
        return str(error)


@given(
    st.lists(
        st.one_of(
            st.text("aB9@.-_\n \r\x00,<>", max_size=12),
            st.sampled_from(
                ["A@b.Example", "a@b.example\n", "a@b.example\nc@d.example", "", "x" * 400 + "@b.c"]
            ),
        ),
        max_size=6,
    )
)
@example(["a@b.example\nc@d.example", "E@f.example"])
@example(["", "a@b.example"])
@example([])
def test_many_at_once_are_what_each_is_alone(addresses: list[str]) -> None:
    """The way that is fast for plain addresses takes nothing for one that is none, and loses none."""
    assert [str(one) for one in normalise_many(addresses)] == [outcome(one) for one in addresses]
    assert [str(one) for one in normalise_many(["Plain@Example.org"])] == ["plain@example.org"]


@pytest.mark.parametrize(
    ("given_as", "normal"),
    [
        ("Example.ORG", "example.org"),
        ("@example.org.", "example.org"),
        (" bücher.example ", "xn--bcher-kva.example"),
    ],
)
def test_a_domain_alone_is_spelled_as_in_addresses(given_as: str, normal: str) -> None:
    """So that a list can be narrowed to it."""
    assert normalise_domain(given_as) == normal == normalise(f"x@{normal}").partition("@")[2]


@pytest.mark.parametrize("text", ["", "@", "a b.example", "a@b.example", "a.example\r\nX: y"])
def test_what_is_no_domain_is_refused(text: str) -> None:
    """With a reason."""
    with pytest.raises(InvalidAddressError, match="not an e-mail address"):
        normalise_domain(text)
