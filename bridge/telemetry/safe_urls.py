"""Shows a link without the secrets and e-mail addresses in it."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote

from yarl import URL

from bridge.telemetry.scrubbing import HIDDEN, Scrubber

_LIKE_A_SECRET: Final = re.compile(r"(?=[^/]*[0-9])[^/]{16,}")
"""A long part of a path with a digit in it, as in links to unsubscribe: it may be a secret."""
_MAX_DECODINGS: Final = 3
"""Click trackers nest one encoded link in another, so a link is decoded this many times."""
_WEB: Final = frozenset({"http", "https"})

_PLAIN: Final = Scrubber(mask_addresses=False)
_MASKING: Final = Scrubber(mask_addresses=True)


def safe_url(link: str, *, mask_addresses: bool) -> str:
    """Where the link leads, as far as it may be shown; its query never is.

    Of a scheme other than the web's or `mailto` only the scheme is shown: a telephone number is about a person, too.
    """
    try:
        url = URL(link)
        host = url.host_port_subcomponent
    except ValueError:
        return HIDDEN
    scrubber = _MASKING if mask_addresses else _PLAIN
    query = f"?{HIDDEN}" if url.query_string else ""
    if url.scheme == "mailto":
        return f"mailto:{scrubber.text(_decoded(url.path))}{query}"
    if url.scheme not in {*_WEB, ""}:
        return f"{url.scheme}:{HIDDEN}"
    path = "/".join(_part(part, scrubber) for part in url.raw_path.split("/"))
    scheme = f"{url.scheme}:" if url.scheme else ""
    return f"{scheme}{f'//{host}' if host else ''}{path}{query}"


def _part(part: str, scrubber: Scrubber) -> str:
    """It may be a whole link itself, with a query."""
    front, mark, _ = _decoded(part).partition("?")
    said = scrubber.text(front)
    if "@" not in said:
        said = _LIKE_A_SECRET.sub(HIDDEN, said)
    return f"{said}{mark}{HIDDEN if mark else ''}"


def _decoded(text: str) -> str:
    for _ in range(_MAX_DECODINGS):
        text = unquote(text)
    return text
