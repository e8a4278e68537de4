"""Many addresses that a person adds at once: what is wanted, and what came of each."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import orjson

from bridge.suppression.addresses import InvalidAddressError
from bridge.suppression.policy import Reason
from bridge.suppression.writing import Cause

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bridge.suppression.address_keys import AddressKeys
    from bridge.suppression.writing import Done


@dataclass(frozen=True, slots=True)
class Addition:
    """An address that is to be added. Arguments as those of `ListWriter.add`."""

    address: str
    reason: Reason = Reason.MANUAL
    note: str = ""
    expires_at: int | None = None


@dataclass(frozen=True, slots=True)
class AdditionResult:
    """What came of one of them."""

    address: str | None
    """Its key on the list; None where it is no address."""
    reason: Reason
    outcome: Literal["added", "updated"] | None
    """Whether its entry is new; None where it is no address."""
    error: str | None = None
    """Why it is no address."""

    def document(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)


def causes_of(
    wanted: Iterable[Addition], keys: AddressKeys, now: int
) -> tuple[list[Cause], list[AdditionResult]]:
    """What puts the valid ones on the list at `now` (Unix seconds), and the results as far as they are known."""
    causes, results = [], []
    for one in wanted:
        try:
            key = keys.written(one.address)
        except InvalidAddressError as error:
            results.append(AdditionResult(None, one.reason, None, str(error)))
            continue
        causes.append(Cause(key, one.address, one.reason, at=now, note=one.note, expires_at=one.expires_at))
        results.append(AdditionResult(key, one.reason, None))
    return causes, results


def completed(
    results: Iterable[AdditionResult], placed: Iterable[Cause], done: Iterable[Done]
) -> list[AdditionResult]:
    """The results with what became of each valid address, and the key under which it is."""
    outcomes = zip(placed, done, strict=True)
    return [one if one.error is not None else _completed(one, *next(outcomes)) for one in results]


def _completed(result: AdditionResult, cause: Cause, done: Done) -> AdditionResult:
    return replace(result, address=cause.address, outcome="added" if done == "added" else "updated")


def answer_of(results: Sequence[AdditionResult]) -> bytes:
    """The results as they are kept for a repeated request."""
    return orjson.dumps([one.document() for one in results])


def results_of(answer: bytes) -> list[AdditionResult]:
    """What `answer_of` has made of them."""
    return [AdditionResult(**one | {"reason": Reason(one["reason"])}) for one in orjson.loads(answer)]
