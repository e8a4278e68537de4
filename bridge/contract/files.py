"""The contract as files: `asyncapi.json`, `schemas/`, `examples/`. The same bytes each time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from bridge.contract import asyncapi, examples, schemas
from bridge.contract.places import ASYNCAPI, EXAMPLES, SCHEMAS

if TYPE_CHECKING:
    from pathlib import Path

    from bridge.broker.topology import Names


def contract_files(names: Names) -> dict[str, bytes]:
    """Path in the folder -> content. Args: the names of exchanges and queues, with the prefix of an installation."""
    documents = {ASYNCAPI: asyncapi.asyncapi(names)}
    documents |= {f"{SCHEMAS}/{name}.json": schema for name, schema in schemas.schemas().items()}
    documents |= {f"{EXAMPLES}/{one.name}.json": one.document() for one in examples.examples(names)}
    return {path: _written(document) for path, document in documents.items()}


def export_contract(folder: Path, names: Names) -> tuple[str, ...]:
    """Write all files. A file that another version of the contract has left there stays.

    Returns:
        The paths of those that stay, in the folder.

    Raises:
        OSError: a file cannot be written.
    """
    files = contract_files(names)
    for path, content in files.items():
        whole = folder / path
        whole.parent.mkdir(parents=True, exist_ok=True)
        part = whole.with_suffix(".part")
        part.write_bytes(content)
        part.replace(whole)
    found = (str(path.relative_to(folder)) for path in _json_files(folder))
    return tuple(path for path in found if path not in files)


def _written(document: Any) -> bytes:
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def _json_files(folder: Path) -> list[Path]:
    return sorted(path for place in (SCHEMAS, EXAMPLES) for path in (folder / place).glob("*.json"))
