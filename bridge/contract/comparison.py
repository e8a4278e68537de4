"""What in one contract breaks another: each place at which a consumer or a sender that was written for the old one fails."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from bridge.contract.schema_comparison import SchemaComparison

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bridge.contract.exported import Contract

_ABOUT: Final = frozenset({"title", "summary", "description", "tags", "examples", "externalDocs"})
"""What is for people only."""
_COMPONENTS: Final = "#/components/schemas/"
_EXACT: Final = "bindings"
"""Where nothing may be added either: it would mean another exchange or queue."""


def breaking_changes(old: Contract, new: Contract) -> list[str]:
    """What breaks, one line for each place; nothing if all who were written for the old contract can go on."""
    return [*_broken_schemas(old, new), *_broken_document(old, new), *_broken_version(old, new)]


def breaks_the_rule(old: Contract, new: Contract) -> list[str]:
    """What breaks without the new major version that it takes."""
    return breaking_changes(old, new) if new.major <= old.major else []


def _broken_version(old: Contract, new: Contract) -> Iterator[str]:
    if new.numbers < old.numbers:
        yield f"info.version: it was {old.version}, and is {new.version}"


def _broken_schemas(old: Contract, new: Contract) -> Iterator[str]:
    accepted = _accepted(old)
    for name, schema in old.schemas.items():
        place = f"schemas/{name}.json"
        if name not in new.schemas:
            yield f"{place}: it was removed"
            continue
        for keyword in ("$schema", "$id"):
            if schema.get(keyword) != new.schemas[name].get(keyword):
                yield f"{place}: {keyword} was {schema.get(keyword)}, and is {new.schemas[name].get(keyword)}"
        comparison = SchemaComparison(old.schemas, new.schemas, sent=name not in accepted)
        yield from comparison.problems(schema, new.schemas[name], place)


def _accepted(contract: Contract) -> set[str]:
    """The schemas of what the bridge accepts; it sends all others."""
    document = contract.asyncapi
    messages = document["components"]["messages"]
    waiting = [
        reference
        for operation in document["operations"].values()
        if operation["action"] == "receive"
        for one in operation["messages"]
        for reference in _references(messages.get(one["$ref"].rpartition("/")[2]))
    ]
    found: set[str] = set()
    while waiting:
        name = waiting.pop().removeprefix(_COMPONENTS)
        if name not in found:
            found.add(name)
            waiting += _references(document["components"]["schemas"].get(name))
    return found


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if "$ref" in node:
            yield str(node["$ref"])
        for inner in node.values():
            yield from _references(inner)
    elif isinstance(node, list):
        for inner in node:
            yield from _references(inner)


def _broken_document(old: Contract, new: Contract) -> Iterator[str]:
    """Channels, operations and messages; their schemas are those of the files."""
    for part in ("servers", "channels", "operations"):
        yield from _kept(old.asyncapi[part], new.asyncapi[part], part)
    yield from _kept(
        old.asyncapi["components"]["messages"], new.asyncapi["components"]["messages"], "messages"
    )


def _kept(old: Any, new: Any, place: str, *, exact: bool = False) -> Iterator[str]:
    """What is not there any more, or is something else."""
    if isinstance(old, dict) and isinstance(new, dict):
        yield from _kept_members(old, new, place, exact=exact)
    elif isinstance(old, list) and isinstance(new, list) and not exact:
        yield from (f"{place}: {_short(one)} was removed" for one in old if one not in new)
    elif old != new:
        yield f"{place}: it was {_short(old)}, and is {_short(new)}"


def _kept_members(
    old: Mapping[str, Any], new: Mapping[str, Any], place: str, *, exact: bool
) -> Iterator[str]:
    for name, value in old.items():
        if name in _ABOUT:
            continue
        if name in new:
            yield from _kept(value, new[name], f"{place}.{name}", exact=exact or name == _EXACT)
        else:
            yield f"{place}.{name}: it was removed"
    if exact:
        yield from (f"{place}.{name}: it was added" for name in new if name not in old)


def _short(value: Any) -> str:
    """For a reference, what it points to."""
    return (
        str(value["$ref"]).removeprefix("#/") if isinstance(value, dict) and "$ref" in value else repr(value)
    )
