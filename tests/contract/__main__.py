"""For `make check`: each example, which the publishers' own code makes, holds to the schemas, in both directions.

So code that publishes something else than the schemas say is found, and not only schemas that change. Exit code 1 with a line for
each place.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

import orjson

from bridge.broker.topology import Names
from bridge.contract import schemas
from bridge.contract.examples import Example, examples
from tests.support import contract

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_MADE_HERE: Final = (schemas.EVENT, schemas.MALFORMED, schemas.CHANGE, schemas.DEAD_LETTER)
"""Kinds of which the bridge sets all properties, headers and, of a change, fields. What else they have is described, too."""


def problems() -> Iterator[str]:
    """A line for each place in which code and schemas differ."""
    described = schemas.schemas()
    for example in examples(Names()):
        where = f"examples/{example.name}.json"
        body = orjson.dumps(example.body)
        found = contract.problems(example.exchange, example.routing_key, example.properties, body)
        yield from (f"{where}: {problem}" for problem in found)
        if example.kind in _MADE_HERE:
            yield from (f"{where}: {name} has no description" for name in _undescribed(example, described))


def _undescribed(example: Example, described: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """What the code sets and no schema names."""
    parts = [
        (schemas.properties_of(example.kind), example.properties),
        (schemas.headers_of(example.kind), example.properties["headers"]),
    ]
    if example.kind == schemas.CHANGE:
        parts.append((schemas.CHANGE, example.body))
    for schema, value in parts:
        yield from (f"{schema}: '{name}'" for name in value if name not in described[schema]["properties"])


def main() -> int:
    found = list(problems())
    for problem in found:
        sys.stderr.write(f"contract: {problem}\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
