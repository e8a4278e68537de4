"""The scripts and styles of others that the console serves: which file of which package each is, and its licence."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import bridge

FOLDER: Final = Path(bridge.__file__).parent / "console" / "static" / "vendor"
FILES: Final = {
    "htmx.min.js": "htmx.org/dist/htmx.min.js",
    "htmx.LICENSE": "htmx.org/LICENSE",
    "htmx-ext-sse.min.js": "htmx-ext-sse/dist/sse.min.js",
    "htmx-ext-sse.LICENSE": "htmx-ext-sse/LICENSE",
    "uplot.min.js": "uplot/dist/uPlot.iife.min.js",
    "uplot.min.css": "uplot/dist/uPlot.min.css",
    "uplot.LICENSE": "uplot/LICENSE",
}
"""Our name -> the file in `node_modules`, as tests/node/package-lock.json locks it."""


def different(node_modules: Path) -> list[str]:
    """Our names of those that are not what the packages have."""
    return [
        name
        for name, source in FILES.items()
        if not (FOLDER / name).exists()
        or (FOLDER / name).read_bytes() != (node_modules / source).read_bytes()
    ]
