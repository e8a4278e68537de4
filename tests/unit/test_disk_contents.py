"""The forgetful disk: what a power cut leaves of the data and the size of a file."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.disk.contents import PAGE, SECTOR, Contents
from tests.support.disk.lost import Lost
from tests.support.disk.memory_store import MemoryStore

if TYPE_CHECKING:
    from tests.support.disk.contents import Rule

SEEDS = range(60)
RULES: list[Rule] = ["posix", "journal"]


def _file(*, synced: bytes = b"") -> tuple[Contents, MemoryStore]:
    store = MemoryStore()
    contents = Contents(7, store)
    if synced:
        contents.write(synced, 0)
        contents.sync()
    return contents, store


def _after_cut(contents: Contents, store: MemoryStore, seed: int, rule: Rule = "posix") -> tuple[bytes, Lost]:
    lost = contents.cut(Random(seed), rule)  # noqa: S311 -- to be repeated
    there = store.bytes_of(7)
    assert len(there) == contents.size == contents.synced_size
    return there, lost


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("seed", SEEDS)
def test_what_was_synced_survives(rule: Rule, seed: int) -> None:
    """Data and size, of whatever length, and nothing is counted as lost."""
    contents, store = _file(synced=b"a" * (3 * PAGE + 17))
    contents.write(b"b" * 100, PAGE - 50)
    contents.sync()
    there, lost = _after_cut(contents, store, seed, rule)
    assert there == b"a" * (PAGE - 50) + b"b" * 100 + b"a" * (2 * PAGE - 33)
    assert lost == Lost()


def test_what_was_not_synced_is_lost_in_some_way() -> None:
    """A new file may be empty, whole, shorter, of full length with zeros in it, and torn within a page."""
    lengths, zeroed, torn = set(), 0, 0
    for seed in SEEDS:
        contents, store = _file()
        contents.write(b"a" * (4 * PAGE), 0)
        there, lost = _after_cut(contents, store, seed)
        assert set(there) <= set(b"a\0")
        lengths.add(len(there))
        zeroed += b"\0" * PAGE in there
        torn += lost.pages_torn
    assert {0, 4 * PAGE} < lengths
    assert zeroed
    assert torn


def test_with_a_journal_a_file_grows_from_its_beginning() -> None:
    """As with ordered data on ext4, and XFS: there are no holes in what was appended, only less of it."""
    lengths = set()
    for seed in SEEDS:
        contents, store = _file(synced=b"a" * PAGE)
        contents.write(b"b" * (4 * PAGE), PAGE)
        there, _ = _after_cut(contents, store, seed, "journal")
        assert there == (b"a" * PAGE + b"b" * 4 * PAGE)[: len(there)]
        lengths.add(len(there))
    assert {PAGE, 5 * PAGE} < lengths


def test_with_a_journal_no_file_grows_in_a_page_that_is_not_there() -> None:
    """The kernel writes back whole pages: the one in which the file ended is there before its end moves, and not torn."""
    for seed in SEEDS:
        contents, store = _file(synced=b"a" * (PAGE + 100))
        contents.write(b"a" * 100 + b"b" * (PAGE - 100), PAGE)
        there, _ = _after_cut(contents, store, seed, "journal")
        assert there in {b"a" * (PAGE + 100), b"a" * (PAGE + 100) + b"b" * (PAGE - 100)}


@pytest.mark.parametrize("rule", RULES)
def test_an_overwritten_page_is_old_new_or_torn(rule: Rule) -> None:
    """Each sector of it is either; the sectors of one page need not be of one age, the size stays."""
    fates = set()
    for seed in SEEDS:
        contents, store = _file(synced=b"a" * (2 * PAGE))
        contents.write(b"b" * PAGE, 0)
        there, lost = _after_cut(contents, store, seed, rule)
        assert there[PAGE:] == b"a" * PAGE
        sectors = [there[start : start + SECTOR] for start in range(0, PAGE, SECTOR)]
        assert all(sector in {b"a" * SECTOR, b"b" * SECTOR} for sector in sectors)
        fate = "torn" if len(set(sectors)) == 2 else sectors[0][:1].decode()
        assert (lost.pages_torn, lost.pages_dropped) == {"torn": (1, 0), "a": (0, 1), "b": (0, 0)}[fate]
        fates.add(fate)
    assert fates == {"a", "b", "torn"}


def test_writing_twice_goes_back_to_what_was_synced() -> None:
    """Not to what was written in between."""
    for seed in SEEDS:
        contents, store = _file(synced=b"a" * PAGE)
        contents.write(b"b" * PAGE, 0)
        contents.write(b"c" * PAGE, 0)
        there, _ = _after_cut(contents, store, seed)
        assert set(there) <= set(b"ac")


@pytest.mark.parametrize("rule", RULES)
def test_a_lost_truncation_brings_back_what_was_cut_off(rule: Rule) -> None:
    """Whole: a truncation zeroes nothing on the disk."""
    lengths = set()
    for seed in SEEDS:
        contents, store = _file(synced=b"a" * (2 * PAGE))
        contents.truncate(0)
        there, _ = _after_cut(contents, store, seed, rule)
        assert set(there) <= set(b"a")
        lengths.add(len(there))
    # With a journal it is an operation of it, and lost there.
    assert lengths == ({0, 2 * PAGE} if rule == "posix" else {2 * PAGE})


def test_a_journalled_truncation_keeps_no_old_data() -> None:
    """Cut off, made longer again, all in the journal: what is read there is zeros or what was written since."""
    for seed in SEEDS:
        contents, store = _file(synced=b"a" * (2 * PAGE))
        contents.truncate(10)
        contents.truncate(PAGE)
        contents.write(b"b" * 100, 100)
        contents.sync_truncation(10)
        contents.sync_truncation(PAGE)
        there, _ = _after_cut(contents, store, seed, "journal")
        assert len(there) == PAGE
        assert there[:10] in {b"a" * 10, b"\0" * 10}
        assert set(there[10:]) <= set(b"b\0")


@given(
    writes=st.lists(
        st.tuples(
            st.sampled_from(["write", "truncate", "sync"]),
            st.integers(0, 5 * SECTOR),
            st.integers(1, 2 * PAGE),
        ),
        max_size=12,
    ),
    seed=st.integers(0, 2**32),
)
def test_no_byte_is_there_that_never_was(writes: list[tuple[str, int, int]], seed: int) -> None:
    """Whatever was done: each byte is one of the last sync, or one of those written since, or zero where the file grew."""
    contents, store = _file()
    seen: list[set[int]] = [set() for _ in range(4 * PAGE)]
    for number, (what, offset, size) in enumerate(writes, 1):
        if what == "write":
            contents.write(bytes([number]) * size, offset)
            for place in range(offset, offset + size):
                seen[place].add(number)
        elif what == "truncate":
            contents.truncate(offset)
        else:
            contents.sync()
            now = store.bytes_of(7)
            seen = [{now[place]} if place < len(now) else set() for place in range(4 * PAGE)]
    there, _ = _after_cut(contents, store, seed)
    assert all(byte == 0 or byte in seen[place] for place, byte in enumerate(there))


def test_one_seed_loses_the_same_twice() -> None:
    """A failing run can be repeated."""
    results = []
    for _ in range(2):
        contents, store = _file(synced=b"a" * (9 * PAGE))
        contents.write(b"b" * (20 * PAGE), 5)
        results.append(_after_cut(contents, store, 3))
    assert results[0] == results[1]
