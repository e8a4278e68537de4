"""Links are shown without secrets and without addresses, and what is no web address is no `None`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.telemetry.safe_urls import safe_url


@pytest.mark.parametrize(
    ("link", "said"),
    [
        ("https://user:pw@example.com/stop/4f0c2a9be81d77aa31?token=hush#part", "https://example.com/stop/***?***"),
        ("mailto:jane@example.org?subject=hush", "mailto:j***@example.org?***"),
        ("mailto:jane%40example.org", "mailto:j***@example.org"),
        ("mailto:jane@example.org,joe@example.org", "mailto:j***@example.org,j***@example.org"),
        ("/stop?token=hush", "/stop?***"),
        ("stop/jane@example.org", "stop/j***@example.org"),
        ("//cdn.example.com/a", "//cdn.example.com/a"),
        ("https://example.com/u/jane@example.org/off", "https://example.com/u/j***@example.org/off"),
        ("https://example.com/u/jane%40example.org", "https://example.com/u/j***@example.org"),
        ("https://example.com/u/jane%2540example.org", "https://example.com/u/j***@example.org"),
        ("https://example.com/to/https%3A%2F%2Fa.org%2Fb%3Ftoken%3Dhush", "https://example.com/to/https://a.org/b?***"),
        ("https://example.com/%D0%BF%D1%80%D0%B8%D0%BC%D0%B5%D1%80", "https://example.com/пример"),
        ("https://jane@example.org", "https://example.org/"),
        ("tel:+79991234567", "tel:***"),
        ("javascript:alert(1)", "javascript:***"),
        ("http://[::1", "***"),
        ("", ""),
    ],
)  # fmt: skip
def test_a_link_is_shown_as_far_as_it_may_be(link: str, said: str) -> None:
    """Host and way; mail and relative links, too."""
    assert safe_url(link, mask_addresses=True) == said


def test_addresses_stand_whole_where_logs_have_them_whole() -> None:
    """One setting for both."""
    assert safe_url("mailto:jane@example.org?a=b", mask_addresses=False) == "mailto:jane@example.org?***"
    assert (
        safe_url("https://e.org/u/jane%40example.org", mask_addresses=False)
        == "https://e.org/u/jane@example.org"
    )


@given(st.text() | st.text().map("https://example.com/{}/jane@example.org".format))
def test_whatever_is_no_link_is_shown_all_the_same(link: str) -> None:
    """Nothing raises, nothing is called None, and no address is whole."""
    said = safe_url(link, mask_addresses=True)
    assert "None" not in said or "None" in link
    assert "jane@example.org" not in said
