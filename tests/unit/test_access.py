"""The tokens of the webhook's URL."""

from __future__ import annotations

import pytest

from bridge.receiver import access
from bridge.receiver.access import Access

TOKENS = ("the-first-of-the-tokens", "the-second-of-the-tokens", "the-third-of-the-tokens")


@pytest.mark.parametrize("token", TOKENS)
def test_each_token_is_valid(token: str) -> None:
    """Several at once, so that one can be rotated while the other works."""
    assert Access(TOKENS).allows(token)


@pytest.mark.parametrize(
    "presented",
    [
        "",
        "the-first-of-the-token",
        "the-first-of-the-tokens ",
        "THE-FIRST-OF-THE-TOKENS",
        "ж",
        "\udcff",
        "x" * 9000,
    ],
)
def test_nothing_else_is(presented: str) -> None:
    """Neither a part of one, nor what a URL may hold that is no text at all."""
    assert not Access(TOKENS).allows(presented)


def test_without_tokens_nothing_is_valid() -> None:
    """Not even the empty token."""
    assert not Access([]).allows("")


@pytest.mark.parametrize("presented", [*TOKENS, "not-a-token-of-ours", ""])
def test_every_token_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch, presented: str) -> None:
    """Whichever fits, all are compared, each over the same number of bytes: time tells nothing."""
    compared: list[tuple[int, int]] = []

    def compare(valid: bytes, digest: bytes) -> bool:
        compared.append((len(valid), len(digest)))
        return valid == digest

    monkeypatch.setattr(access, "compare_digest", compare)
    Access(TOKENS).allows(presented)
    assert compared == [(32, 32)] * len(TOKENS)
