"""Whether one JSON Schema keeps what another has promised. It knows the forms of `vocabulary`; any other must not change."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    Schema = Mapping[str, Any]
    Schemas = Mapping[str, Schema]

_ABOUT: Final = frozenset(
    {"title", "description", "examples", "$comment", "default", "deprecated", "$schema", "$id"}
)
"""What says nothing of the values. The dialect and the id are compared with the file."""
_LEAST: Final = ("minLength", "minimum", "minItems")
_MOST: Final = ("maxLength", "maximum", "maxItems")
_SAME: Final = ("pattern", "format")
_COMPARED: Final = frozenset(
    {"type", "const", "enum", "properties", "required", "items", "anyOf", *_LEAST, *_MOST, *_SAME}
)
_TYPES: Final[Mapping[str, type | tuple[type, ...]]] = {
    "object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "boolean": bool, "null": type(None),
}  # fmt: skip
_EVERYTHING: Final[Schema] = {}
_ABSENT: Final = "nothing"


class SchemaComparison:
    """Compares schemas of two contracts.

    What the bridge sends may become narrower: a consumer that was written for the old schema must be able to read
    everything that the new one allows. What it accepts may become wider: all that the old one allows.
    """

    def __init__(self, old: Schemas, new: Schemas, *, sent: bool) -> None:
        """Args: all schemas of both contracts by name; whether the bridge sends what they describe, or accepts it."""
        self._old = old
        self._new = new
        self._sent = sent

    def problems(self, old: Schema, new: Schema, place: str) -> Iterator[str]:
        """What is broken, one line for each place."""
        old, new = _resolved(old, self._old), _resolved(new, self._new)
        yield from self._unknown_keywords(old, new, place)
        yield from self._values(old, new, place)
        yield from self._properties(old, new, place)
        if "items" in old or "items" in new:
            yield from self.problems(
                old.get("items") or _EVERYTHING, new.get("items") or _EVERYTHING, f"{place}[]"
            )
        yield from self._alternatives(old, new, place)

    def _unknown_keywords(self, old: Schema, new: Schema, place: str) -> Iterator[str]:
        for keyword in sorted((old.keys() | new.keys()) - _COMPARED - _ABOUT):
            if old.get(keyword) != new.get(keyword):
                yield (
                    _changed(place, keyword, old.get(keyword, _ABSENT), new.get(keyword, _ABSENT))
                    + ", and it is not known what that means"
                )

    def _values(self, old: Schema, new: Schema, place: str) -> Iterator[str]:
        """Types, constants and limits."""
        narrow, wide = self._ordered(old, new)
        if (values := _constants(narrow)) is not None:
            if not all(_allows(wide, value, self._of_wide) for value in values):
                yield _changed(place, "the value", _words(old), _words(new))
            return
        if "anyOf" in narrow:  # each alternative is compared
            return
        if not _types(narrow) <= _types(wide):
            yield _changed(place, "type", old.get("type", _ABSENT), new.get("type", _ABSENT))
        if _constants(wide) is not None:
            yield _changed(place, "the value", _words(old), _words(new))
        for keyword in (*_LEAST, *_MOST, *_SAME):
            if not _keeps(keyword, narrow.get(keyword), wide.get(keyword)):
                yield _changed(place, keyword, old.get(keyword, _ABSENT), new.get(keyword, _ABSENT))

    def _properties(self, old: Schema, new: Schema, place: str) -> Iterator[str]:
        before, now = old.get("properties", {}), new.get("properties", {})
        for name in before:
            if name in now:
                yield from self.problems(before[name], now[name], f"{place}.{name}")
            else:
                yield f"{place}.{name}: it was removed"
        narrow, wide = self._ordered(old, new)
        for name in wide.get("required", ()):
            if name not in narrow.get("required", ()) and (name in now or name not in before):
                what = "it was always there, and need not be any more" if self._sent else "it is required now"
                yield f"{place}.{name}: {what}"

    def _alternatives(self, old: Schema, new: Schema, place: str) -> Iterator[str]:
        narrow, wide = (list(one.get("anyOf", ())) for one in self._ordered(old, new))
        if narrow:
            others = wide or [self._ordered(old, new)[1]]
            for number, one in enumerate(narrow):
                if not any(self._fits(one, other, place) for other in others):
                    yield f"{place}: {_words(one)} (alternative {number + 1}) is {'new' if self._sent else 'gone'}"
        elif wide and _constants(self._ordered(old, new)[0]) is None:
            one = self._ordered(old, new)[0]
            if not any(self._fits(one, other, place) for other in wide):
                yield f"{place}: it is {_words(one)} {'now' if self._sent else 'no longer'}, beside the alternatives"
        known = {value for one in new.get("anyOf", ()) for value in _constants(one) or ()}
        for one in old.get("anyOf", ()):
            for value in _constants(one) or ():
                if value not in known and "anyOf" in new:
                    yield f"{place}: '{value}' was removed"

    def _fits(self, narrow: Schema, wide: Schema, place: str) -> bool:
        """Whether one alternative keeps what another has promised."""
        old, new = self._ordered(narrow, wide)
        return not any(self.problems(old, new, place))

    def _ordered(self, old: Schema, new: Schema) -> tuple[Schema, Schema]:
        """The schema that must be the narrower one, and the other; the same way round back."""
        return (new, old) if self._sent else (old, new)

    @property
    def _of_wide(self) -> Schemas:
        return self._old if self._sent else self._new


def _resolved(schema: Schema, schemas: Schemas) -> Schema:
    while "$ref" in schema:
        schema = schemas.get(str(schema["$ref"]).removesuffix(".json"), _EVERYTHING)
    return schema


def _constants(schema: Schema) -> list[Any] | None:
    """The only values that it allows; None: it does not list them."""
    if "const" in schema:
        return [schema["const"]]
    return list(schema["enum"]) if "enum" in schema else None


def _types(schema: Schema) -> frozenset[str]:
    given = schema.get("type", [*_TYPES])
    types = frozenset([given] if isinstance(given, str) else given)
    return types | {"integer"} if "number" in types else types


def _keeps(keyword: str, narrow: Any, wide: Any) -> bool:
    """Whether this keyword of the narrower schema allows no more than that of the wider one."""
    if wide is None:
        return True
    if narrow is None or keyword in _SAME:
        return bool(narrow == wide)
    return bool(narrow >= wide) if keyword in _LEAST else bool(narrow <= wide)


def _allows(schema: Schema, value: Any, schemas: Schemas) -> bool:
    """Whether the schema allows this text or number."""
    schema = _resolved(schema, schemas)
    if "anyOf" in schema and not any(_allows(one, value, schemas) for one in schema["anyOf"]):
        return False
    constants = _constants(schema)
    if constants is not None:
        return value in constants
    if not any(isinstance(value, _TYPES[name]) for name in _types(schema)):
        return False
    size = len(value) if isinstance(value, str) else value
    least, most = (limits[0 if isinstance(value, str) else 1] for limits in (_LEAST, _MOST))
    return (
        schema.get(least, size) <= size <= schema.get(most, size)
        and re.search(schema.get("pattern", ""), str(value)) is not None
    )


def _words(schema: Schema) -> str:
    """The schema in a few words."""
    constants = _constants(schema)
    if constants is not None:
        return ", ".join(f"'{value}'" for value in constants)
    return str(schema.get("type") or schema.get("$ref") or "anything")


def _changed(place: str, what: str, old: Any, new: Any) -> str:
    return f"{place}: {what} was {old}, and is {new}"
