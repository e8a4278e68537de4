"""Cost against size, as parts of `make bench`: which there are, at which sizes, and the table of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from tests.programs.bench import growth_archive, growth_list, growth_receiver, growth_spool

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from typing import Any

    from tests.programs.bench.growth_curves import Curve
    from tests.programs.bench.place import Place
    from tests.programs.bench.throughput import Say


@dataclass(frozen=True, slots=True)
class Part:
    """One thing that grows."""

    name: str
    measure: Callable[..., Coroutine[Any, Any, list[Curve]]]
    """Called with the sizes and `say`; also with the place where RabbitMQ runs, if it needs one."""
    sizes: Sequence[int]
    full: Sequence[int] = ()
    """With a size that takes half an hour; empty: there is none."""
    in_place: bool = True

    def measured(self, place: Place, *, full: bool, say: Say) -> Coroutine[Any, Any, list[Curve]]:
        measure = partial(self.measure, place) if self.in_place else self.measure
        return measure(sizes=(self.full if full else ()) or self.sizes, say=say)


PARTS: Final = (
    Part("growth: list", growth_list.measure, growth_list.SIZES, growth_list.FULL, in_place=False),
    Part("growth: spool", growth_spool.measure, growth_spool.SIZES),
    Part("growth: archive", growth_archive.measure, growth_archive.SIZES),
    *(
        Part(name, measure, sizes)
        for name, measure, sizes in (
            ("growth: subscribers", growth_receiver.subscribers, growth_receiver.SUBSCRIBER_SIZES),
            ("growth: connections", growth_receiver.connections, growth_receiver.CONNECTION_SIZES),
            ("growth: processes", growth_receiver.processes, growth_receiver.PROCESS_SIZES),
        )
    ),
)
