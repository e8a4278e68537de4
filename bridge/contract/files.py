"""The contract as files: `asyncapi.json`, `schemas/`, `examples/`. The same bytes each time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson

from bridge.contract import asyncapi, examples, schemas

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Self

    from bridge.broker.topology import Names

ASYNCAPI: Final = "asyncapi.json"
SCHEMAS: Final = "schemas"
EXAMPLES: Final = "examples"
_PARTS: Final = ("servers", "channels", "operations")


class NotAContractError(Exception):
    """A folder holds no contract. The message names the file, and what is wrong with it."""


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


@dataclass(frozen=True, slots=True)
class Contract:
    """What is compared of a contract."""

    asyncapi: Mapping[str, Any]
    schemas: Mapping[str, Mapping[str, Any]]
    """By their names."""

    @classmethod
    def of_this_bridge(cls, names: Names) -> Self:
        return cls(asyncapi.asyncapi(names), schemas.schemas())

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The contract that `export_contract` has written there.

        Raises:
            NotAContractError: there is none.
        """
        found = cls(
            _read(folder / ASYNCAPI), {path.stem: _read(path) for path in sorted((folder / SCHEMAS).glob("*.json"))}
        )  # fmt: skip
        if problem := _missing(found.asyncapi):
            raise NotAContractError(f"{folder / ASYNCAPI} has no {problem}: export the contract anew")
        return found

    @property
    def version(self) -> str:
        return str(self.asyncapi["info"]["version"])

    @property
    def major(self) -> int:
        return int(self.version.partition(".")[0])

    @property
    def prefix(self) -> str:
        """The setting `rabbitmq.prefix` of the installation that it was exported for."""
        return str(self.asyncapi.get(asyncapi.PREFIX, ""))


def _missing(document: Mapping[str, Any]) -> str:
    """Which part it lacks that a comparison needs; empty if none."""
    info, components = document.get("info"), document.get("components")
    version = info.get("version") if isinstance(info, dict) else None
    if not isinstance(version, str) or not version.partition(".")[0].isdecimal():
        return "`info.version`"
    if not isinstance(components, dict) or not {"messages", "schemas"} <= components.keys():
        return "`components`"
    return next((f"`{part}`" for part in _PARTS if not isinstance(document.get(part), dict)), "")


def _written(document: Any) -> bytes:
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def _read(path: Path) -> dict[str, Any]:
    try:
        found = orjson.loads(path.read_bytes())
    except OSError as error:
        raise NotAContractError(f"{path} cannot be read: {error.strerror}") from None
    except orjson.JSONDecodeError as error:
        raise NotAContractError(f"{path} is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise NotAContractError(f"{path} is not a JSON object")
    return found


def _json_files(folder: Path) -> list[Path]:
    return sorted(path for place in (SCHEMAS, EXAMPLES) for path in (folder / place).glob("*.json"))
