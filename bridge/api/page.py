"""The OpenAPI document as one HTML page."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any, Final

import orjson

from bridge.api.html import code_block, inline, paragraphs, table, whole_page

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    Document = Mapping[str, Any]

METHODS: Final = ("get", "put", "post", "delete")


def page_of(document: Document) -> str:
    """The page. Args: an OpenAPI document."""
    info = document["info"]
    body = "".join(
        [
            f"<h1>{escape(info['title'])}</h1>",
            paragraphs(info["description"]),
            '<p>The same for programs: <a href="/openapi.json">openapi.json</a>.</p>',
            _overview(document),
            *(_tag(document, tag) for tag in document["tags"]),
            "<h2>Objects</h2>",
            *(_schema(document, name) for name in document["components"]["schemas"]),
        ]
    )
    return whole_page(info["title"], body)


def operations(document: Document) -> Iterator[tuple[str, str, Document]]:
    """Method, path and description of each operation."""
    for path, item in document["paths"].items():
        for method in METHODS:
            if method in item:
                yield method, path, item[method]


def _overview(document: Document) -> str:
    lines = (
        f'<li><a href="#{operation["operationId"]}"><code><span class="method">{method}</span> {escape(path)}</code></a></li>'
        for method, path, operation in operations(document)
    )
    return f"<nav><ul>{''.join(lines)}</ul></nav>"


def _tag(document: Document, tag: Document) -> str:
    inside = (
        _operation(document, method, path, operation)
        for method, path, operation in operations(document)
        if tag["name"] in operation["tags"]
    )
    return f"<h2>{escape(tag['name'])}</h2>{paragraphs(tag['description'])}{''.join(inside)}"


def _operation(document: Document, method: str, path: str, operation: Document) -> str:
    parameters = [_resolved(document, one) for one in operation.get("parameters", [])]
    return "".join(
        [
            f'<h3 id="{operation["operationId"]}">{escape(operation["summary"])}</h3>',
            f'<p><code><span class="method">{method}</span> {escape(path)}</code></p>',
            paragraphs(operation["description"]),
            table(
                ("parameter", "in", "takes", "meaning"),
                (
                    (
                        f"<code>{escape(one['name'])}</code>",
                        escape(one["in"]),
                        _type(one["schema"]),
                        inline(one["description"]),
                    )
                    for one in parameters
                ),
            )
            if parameters
            else "",
            _body(operation["requestBody"]) if "requestBody" in operation else "",
            table(("status", "meaning", "body"), _responses(document, operation)),
        ]
    )


def _body(body: Document) -> str:
    (media,) = body["content"].values()
    example = (
        orjson.dumps(media["example"], option=orjson.OPT_INDENT_2).decode() if "example" in media else ""
    )
    return f"<p>Body: {_type(media['schema'])}</p>" + (code_block(example) if example else "")


def _responses(document: Document, operation: Document) -> Iterator[tuple[str, ...]]:
    for status, response in operation["responses"].items():
        found = _resolved(document, response)
        bodies = ", ".join(
            _type(media["schema"]) if "json" in kind and "nd" not in kind else f"<code>{escape(kind)}</code>"
            for kind, media in found["content"].items()
        )
        yield escape(status), inline(found["description"]), bodies


def _schema(document: Document, name: str) -> str:
    schema = document["components"]["schemas"][name]
    head = f'<h3 id="{name}">{escape(name)}</h3>'
    parts = [_resolved(document, part) for part in schema.get("allOf", [schema])]
    rows = [
        (
            f"<code>{escape(field)}</code>",
            _type(kind),
            inline(_resolved(document, kind).get("description", "")),
        )
        for part in parts
        for field, kind in part.get("properties", {}).items()
    ]
    about = paragraphs(schema["description"]) if "description" in schema else ""
    return head + about + (table(("field", "takes", "meaning"), rows) if rows else f"<p>{_type(schema)}</p>")


def _type(schema: Document) -> str:
    """What a value may be, in a few words."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#{name}">{name}</a>'
    if alternatives := schema.get("allOf") or schema.get("oneOf"):
        return " or ".join(map(_type, alternatives))
    if "enum" in schema:
        return ", ".join(f"<code>{escape(str(one))}</code>" for one in schema["enum"] if one is not None)
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    if "items" in schema:
        return f"list of {_type(schema['items'])}"
    words = [schema.get("format", kind) if kind == "string" else kind for kind in kinds]
    limits = [
        f"{word} {schema[key]:,}"
        for word, key in (("from", "minimum"), ("to", "maximum"), ("at most", "maxLength"))
        if key in schema
    ]
    return escape(" ".join([" or ".join(words), *limits]))


def _resolved(document: Document, given: Document) -> Document:
    """What a reference stands for."""
    found: Any = document
    for name in given["$ref"].split("/")[1:] if "$ref" in given else ():
        found = found[name]
    return found if "$ref" in given else given
