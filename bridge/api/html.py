"""Pages for people: one style, tables and text, without scripts and without anybody else's server."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from html import escape
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

STYLE: Final = """
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; background: #fff }
code, pre { font-family: ui-monospace, monospace; font-size: .9em }
pre { background: #f4f4f4; padding: .7rem; overflow-x: auto }
h2 { border-bottom: 1px solid #ccc; margin-top: 3rem }
h3 { margin-top: 2rem }
:focus-visible { outline: 2px solid #1a6dd4; outline-offset: 2px }
summary { cursor: pointer }
.method { display: inline-block; min-width: 4.5rem; font-weight: bold; text-transform: uppercase }
table { border-collapse: collapse; width: 100%; margin: .7rem 0 }
th, td { text-align: left; vertical-align: top; border-bottom: 1px solid #ddd; padding: .3rem .8rem .3rem 0 }
td { overflow-wrap: anywhere }
td:first-child, th { overflow-wrap: normal }
nav ul { columns: 2; padding-left: 1.2rem }
@media (max-width: 40rem) {
  nav ul { columns: 1 }
  table, tbody, tr, td { display: block } thead { display: none } td { border: 0; padding: 0 } tr { border-bottom: 1px solid #ddd; padding: .4rem 0 }
  td:first-child { overflow-wrap: anywhere }
}
@media (prefers-color-scheme: dark) {
  body { color: #ddd; background: #1b1b1b } pre { background: #2a2a2a } a { color: #8ab4f8 }
  h2, th, td, tr { border-color: #444 }
}
"""
_HASH: Final = b64encode(sha256(STYLE.encode()).digest()).decode()
HEADERS: Final = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
"""Of every page, and of every document beside it."""


def whole_page(title: str, body: str) -> str:
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>{body}</body></html>"
    )


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Args: the names of the columns; and the rows, whose cells are HTML."""
    head = "".join(f"<th>{name}</th>" for name in heads)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def code_block(text: str) -> str:
    """It can be scrolled with the keyboard, too."""
    return f'<pre tabindex="0">{escape(text)}</pre>'


def paragraphs(text: str) -> str:
    return "".join(f"<p>{inline(paragraph)}</p>" for paragraph in text.split("\n\n") if paragraph)


def inline(text: str) -> str:
    """Between backticks is code."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if at % 2 else part for at, part in enumerate(parts))
