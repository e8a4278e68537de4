"""The AsyncAPI document as one HTML page."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any, Final

import orjson

from bridge.api.html import code_block, inline, paragraphs, table, whole_page

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    Document = Mapping[str, Any]

_BASE: Final = "/contract"
_PARTS: Final = ("x-amqp-properties", "headers", "payload")
_HEADS: Final = {"x-amqp-properties": "Properties", "headers": "Headers", "payload": "Body"}


def page_of(document: Document, examples: Document, files: Sequence[str]) -> str:
    """The page.

    Args:
        document: an AsyncAPI document.
        examples: name of an example -> exchange, routing key, properties and body.
        files: the paths of all files, for links.
    """
    info = document["info"]
    parts = [
        f"<h1>{escape(info['title'])}</h1>",
        f"<p>Version {escape(info['version'])}. The same for programs: {_link('asyncapi.json')}.</p>",
        _overview(document),
        paragraphs(info["description"]),
    ]
    shown: set[str] = set()
    parts += [_area(document, area, examples, shown) for area in info["tags"]]
    parts.append(f'<h2 id="files">Files</h2><ul>{"".join(f"<li>{_link(path)}</li>" for path in files)}</ul>')
    return whole_page(info["title"], "".join(parts))


def _overview(document: Document) -> str:
    areas = "".join(
        f'<li><a href="#{_anchor(area["name"])}">{escape(area["name"].capitalize())}</a><ul>'
        + "".join(
            f'<li><a href="#{escape(name)}">{inline(document["components"]["messages"][name]["title"])}</a></li>'
            for name in _messages(document, area["name"])
        )
        + "</ul></li>"
        for area in document["info"]["tags"]
    )
    return f'<nav aria-label="Contents"><ul>{areas}<li><a href="#files">Files</a></li></ul></nav>'


def _area(document: Document, area: Document, examples: Document, shown: set[str]) -> str:
    """An area: where its messages are, what they consist of, and each of them with its example."""
    name = area["name"]
    parts = [
        f'<h2 id="{_anchor(name)}">{escape(name.capitalize())}</h2>',
        paragraphs(area["description"]),
        table(("where", "exchange or queue", "meaning"), _places(document, name)),
    ]
    for message_name in _messages(document, name):
        message = document["components"]["messages"][message_name]
        kind = _reference(message["payload"])
        if kind not in shown:
            shown.add(kind)
            parts.append(_kind(document, message))
        parts += [_message(message_name, message, examples), *_other_keys(document, message_name)]
    return "".join(parts)


def _channels(document: Document, area: str) -> list[Document]:
    return [
        channel
        for channel in document["channels"].values()
        if any(tag["name"] == area for tag in channel["tags"])
    ]


def _messages(document: Document, area: str) -> list[str]:
    """The messages of an area: where they are published, before the queues in which much comes together."""
    found: dict[str, str] = {}
    for channel in sorted(document["channels"].values(), key=_is_queue):
        for name in channel["messages"]:
            found.setdefault(name, channel["tags"][0]["name"])
    return [name for name, place in found.items() if place == area]


def _is_queue(channel: Document) -> bool:
    return bool(channel["bindings"]["amqp"]["is"] == "queue")


def _places(document: Document, area: str) -> Iterator[tuple[str, ...]]:
    for channel in _channels(document, area):
        binding = channel["bindings"]["amqp"]
        if _is_queue(channel):
            yield f"<code>{escape(channel['address'])}</code>", "queue", inline(channel["description"])
            continue
        exchange = binding["exchange"]
        where = f"{escape(exchange['type'])} exchange <code>{escape(exchange['name'])}</code>"
        (first, *_) = channel["messages"]
        key = f'<a href="#{escape(first)}"><code>{escape(channel["address"])}</code></a>'
        yield f"routing key {key}", where, inline(channel["description"])


def _kind(document: Document, message: Document) -> str:
    """What all messages with this body consist of."""
    schemas = document["components"]["schemas"]
    found = []
    for part in _PARTS:
        name = _reference(message[part])
        schema = schemas[name]
        rows = [row for row in _rows(schemas, schema) if row[0] != "<code>headers</code>"]
        about = inline(schema.get("description", ""))
        found.append(
            f"<h4>{_HEADS[part]}</h4><p>{about} {_link(f'schemas/{name}.json')}</p>"
            + (table(("name", "type", "meaning"), rows) if rows else "")
        )
    title = schemas[_reference(message["payload"])]["title"]
    return f"<h3>{escape(title)}: what it consists of</h3>{''.join(found)}"


def _rows(schemas: Document, schema: Document, before: str = "") -> Iterator[tuple[str, str, str]]:
    """A row for each field, and for each field within it."""
    schema = _resolved(schemas, schema)
    for one in schema.get("anyOf", ()) if "properties" not in schema else ():
        yield from _rows(schemas, one, before)
    for name, given in schema.get("properties", {}).items():
        field = _resolved(schemas, given)
        optional = "" if name in schema.get("required", ()) else ", optional"
        yield f"<code>{escape(before + name)}</code>", _type(field) + optional, _meaning(field)
        inner = field.get("items", field)
        if ("$ref" in inner or "properties" in inner) and name != "headers":
            yield from _rows(schemas, inner, f"{before}{name}{'[]' if 'items' in field else ''}.")


def _type(schema: Document) -> str:
    """What a value may be, in a few words."""
    if "const" in schema:
        return f"always <code>{escape(str(schema['const']))}</code>"
    if "anyOf" in schema:
        return "keyword or null" if any(one.get("type") == "null" for one in schema["anyOf"]) else "keyword"
    kinds = schema.get("type", "anything")
    words = " or ".join([kinds] if isinstance(kinds, str) else kinds)
    return escape("time" if schema.get("format") == "date-time" else words)


def _meaning(schema: Document) -> str:
    """The description, and the known keywords."""
    about = inline(schema.get("description", ""))
    known = [
        f"<li><code>{escape(one['const'])}</code>: {inline(one['description'])}</li>"
        for one in schema.get("anyOf", ())
        if "const" in one
    ]
    return about + (f"<ul>{''.join(known)}</ul>" if known else "")


def _message(name: str, message: Document, examples: Document) -> str:
    shown = "".join(_example(one["name"], examples[one["name"]]) for one in message.get("examples", ()))
    return (
        f'<h3 id="{escape(name)}">{inline(message["title"])}</h3><p>{inline(message["summary"])}</p>{shown}'
    )


def _example(name: str, example: Any) -> str:
    text = orjson.dumps(example, option=orjson.OPT_INDENT_2).decode()
    return f"<details><summary>Example: {escape(name)}</summary><p>{_link(f'examples/{name}.json')}</p>{code_block(text)}</details>"


def _other_keys(document: Document, message: str) -> Iterator[str]:
    """The other routing keys under which it comes."""
    for name, channel in document["channels"].items():
        if message in channel["messages"] and name != message and not _is_queue(channel):
            yield f'<h4 id="{escape(name)}">{inline(channel["title"])}</h4><p>{inline(channel["description"])}</p>'


def _reference(schema: Document) -> str:
    """The name of the schema that a part of a message points to."""
    pointing = schema.get("allOf", [schema])[0]
    return str(pointing["$ref"]).rpartition("/")[2]


def _resolved(schemas: Document, schema: Document) -> Document:
    found: Document = schemas[_reference(schema)] if "$ref" in schema else schema
    return found


def _link(path: str) -> str:
    return f'<a href="{_BASE}/{escape(path)}"><code>{escape(path)}</code></a>'


def _anchor(name: str) -> str:
    return escape(name.replace(" ", "-"))
