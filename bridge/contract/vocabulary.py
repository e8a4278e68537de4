"""The few forms that the contract's JSON Schemas are written in. All of them mean the same in draft 7 and in 2020-12."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from bridge.broker.header_values import MAX_UNIX_MS

if TYPE_CHECKING:
    from collections.abc import Mapping

    Schema = dict[str, Any]

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
BASE: Final = "https://bridge.invalid/contract/schemas/"
"""In front of each `$id`. It is an identifier and no place: the top-level domain `invalid` is reserved for that."""

EVENT_ID: Final = "^[0-9a-f]{32}$"


def text(description: str, **more: Any) -> Schema:
    return {"type": "string", "description": description, **more}


def whole_number(description: str, **more: Any) -> Schema:
    return {"type": "integer", "description": description, **more}


def always(value: Any, description: str) -> Schema:
    """A value that is the same in every message."""
    return {
        "type": "integer" if isinstance(value, int) else "string",
        "const": value,
        "description": description,
    }


def moment(description: str, **more: Any) -> Schema:
    """A time of RFC 3339 in UTC, in whole seconds."""
    return text(
        description,
        format="date-time",
        pattern="^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$",
        **more,
    )


def unix_ms(description: str) -> Schema:
    return whole_number(f"{description}, in Unix milliseconds", minimum=0, maximum=MAX_UNIX_MS)


def open_list(description: str, known: Mapping[str, str], *, null: str = "") -> Schema:
    """A keyword out of a list that may grow. A consumer must expect one that it does not know.

    Args:
        description: what the keyword says.
        known: keyword -> its meaning.
        null: what it means that there is none; empty: there always is one.
    """
    return {
        "description": f"{description}. The list may grow: expect keywords that are not in it",
        "anyOf": [
            *({"const": name, "description": meaning} for name, meaning in known.items()),
            {
                "type": "string",
                "minLength": 1,
                "description": "one that this version of the contract does not know",
            },
            *([{"type": "null", "description": null}] if null else []),
        ],
    }


def an_object(
    description: str, properties: Mapping[str, Schema], *, optional: tuple[str, ...] = ()
) -> Schema:
    """An object. It may have more properties than these; a consumer ignores them."""
    found: Schema = {"type": "object", "description": description, "properties": dict(properties)}
    if required := [name for name in properties if name not in optional]:
        found["required"] = required
    return found


def reference(name: str) -> Schema:
    """The schema of this name, in a file of its own beside this one."""
    return {"$ref": f"{name}.json"}


def document(name: str, title: str, schema: Schema) -> Schema:
    """A schema that stands in a file of its own."""
    return {"$schema": DIALECT, "$id": f"{BASE}{name}.json", "title": title, **schema}
