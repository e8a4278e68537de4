"""The OpenAPI document as one HTML page."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any, Final

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    Document = Mapping[str, Any]

METHODS: Final = ("get", "put", "post", "delete")

STYLE: Final = """
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; background: #fff }
code, pre { font-family: ui-monospace, monospace; font-size: .9em }
pre { background: #f4f4f4; padding: .7rem; overflow-x: auto }
h2 { border-bottom: 1px solid #ccc; margin-top: 3rem }
h3 { margin-top: 2rem }
.method { display: inline-block; min-width: 4.5rem; font-weight: bold; text-transform: uppercase }
table { border-collapse: collapse; width: 100%; margin: .7rem 0 }
th, td { text-align: left; vertical-align: top; border-bottom: 1px solid #ddd; padding: .3rem .8rem .3rem 0 }
nav ul { columns: 2; padding-left: 1.2rem }
@media (prefers-color-scheme: dark) {
  body { color: #ddd; background: #1b1b1b } pre { background: #2a2a2a } a { color: #8ab4f8 }
  h2, th, td { border-color: #444 }
}
"""


def page_of(document: Document) -> str:
    """The page. Args: an OpenAPI document."""
    info = document["info"]
    body = "".join(
        [
            f"<h1>{escape(info['title'])}</h1>",
            _text(info["description"]),
            '<p>The same for programs: <a href="/openapi.json">openapi.json</a>.</p>',
            _overview(document),
            *(_tag(document, tag) for tag in document["tags"]),
            "<h2>Objects</h2>",
            *(_schema(document, name) for name in document["components"]["schemas"]),
        ]
    )
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(info['title'])}</title><style>{STYLE}</style></head><body>{body}</body></html>"
    )


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
    return f"<h2>{escape(tag['name'])}</h2>{_text(tag['description'])}{''.join(inside)}"


def _operation(document: Document, method: str, path: str, operation: Document) -> str:
    parameters = [_resolved(document, one) for one in operation.get("parameters", [])]
    return "".join(
        [
            f'<h3 id="{operation["operationId"]}">{escape(operation["summary"])}</h3>',
            f'<p><code><span class="method">{method}</span> {escape(path)}</code></p>',
            _text(operation["description"]),
            _table(
                ("parameter", "in", "takes", "meaning"),
                (
                    (
                        f"<code>{escape(one['name'])}</code>",
                        escape(one["in"]),
                        _type(one["schema"]),
                        _inline(one["description"]),
                    )
                    for one in parameters
                ),
            )
            if parameters
            else "",
            _body(operation["requestBody"]) if "requestBody" in operation else "",
            _table(("status", "meaning", "body"), _responses(document, operation)),
        ]
    )


def _body(body: Document) -> str:
    (media,) = body["content"].values()
    example = (
        orjson.dumps(media["example"], option=orjson.OPT_INDENT_2).decode() if "example" in media else ""
    )
    return f"<p>Body: {_type(media['schema'])}</p>" + (f"<pre>{escape(example)}</pre>" if example else "")


def _responses(document: Document, operation: Document) -> Iterator[tuple[str, ...]]:
    for status, response in operation["responses"].items():
        found = _resolved(document, response)
        bodies = ", ".join(
            _type(media["schema"]) if "json" in kind and "nd" not in kind else f"<code>{escape(kind)}</code>"
            for kind, media in found["content"].items()
        )
        yield escape(status), _inline(found["description"]), bodies


def _schema(document: Document, name: str) -> str:
    schema = document["components"]["schemas"][name]
    head = f'<h3 id="{name}">{escape(name)}</h3>'
    parts = [_resolved(document, part) for part in schema.get("allOf", [schema])]
    rows = [
        (
            f"<code>{escape(field)}</code>",
            _type(kind),
            _inline(_resolved(document, kind).get("description", "")),
        )
        for part in parts
        for field, kind in part.get("properties", {}).items()
    ]
    about = _text(schema["description"]) if "description" in schema else ""
    return head + about + (_table(("field", "takes", "meaning"), rows) if rows else f"<p>{_type(schema)}</p>")


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


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = "".join(f"<th>{name}</th>" for name in heads)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _text(text: str) -> str:
    return "".join(f"<p>{_inline(paragraph)}</p>" for paragraph in text.split("\n\n") if paragraph)


def _inline(text: str) -> str:
    """Between backticks is code."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if at % 2 else part for at, part in enumerate(parts))
