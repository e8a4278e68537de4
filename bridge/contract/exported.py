"""A contract that was exported: read, and held to the forms that the bridge writes, so that it can be compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bridge.contract import asyncapi, schemas
from bridge.contract.places import ASYNCAPI, SCHEMAS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Self

    from bridge.broker.topology import Names

_MAX_SHOWN: Final = 3


class NotAContractError(Exception):
    """A folder holds no contract. The message names the file, and what is wrong with it."""


class _Form(BaseModel):
    model_config = ConfigDict(strict=True)


class _Schema(_Form):
    """Of each keyword that is compared, what it may be."""

    type: str | list[str] = ""
    const: str | int | float | bool | None = None
    enum: list[str | int | float | bool | None] = []
    pattern: str = ""
    format: str = ""
    minimum: float = 0
    maximum: float = 0
    minLength: int = 0  # noqa: N815 -- as in JSON Schema, like the next ones
    maxLength: int = 0  # noqa: N815 -- the name in JSON Schema
    minItems: int = 0  # noqa: N815 -- the name in JSON Schema
    maxItems: int = 0  # noqa: N815 -- the name in JSON Schema
    required: list[str] = []
    properties: dict[str, _Schema] = {}
    items: _Schema | None = None
    anyOf: list[_Schema] = []  # noqa: N815 -- the name in JSON Schema
    reference: str = Field(default="", alias="$ref")


class _Reference(_Form):
    reference: str = Field(alias="$ref")


class _Operation(_Form):
    action: str
    messages: list[_Reference]


class _Components(_Form):
    messages: dict[str, dict[str, Any]]
    schemas: dict[str, dict[str, Any]]


class _Info(_Form):
    version: str = Field(pattern=r"^[0-9]{1,9}\.[0-9]{1,9}\.[0-9]{1,9}$")


class _Document(_Form):
    info: _Info
    servers: dict[str, dict[str, Any]]
    channels: dict[str, dict[str, Any]]
    operations: dict[str, _Operation]
    components: _Components
    prefix: str = Field(alias=asyncapi.PREFIX)


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
        """The contract that `bridge contract export` has written there.

        Raises:
            NotAContractError: there is none.
        """
        paths = sorted((folder / SCHEMAS).glob("*.json"))
        return cls(_read(folder / ASYNCAPI, _Document), {path.stem: _read(path, _Schema) for path in paths})

    @property
    def version(self) -> str:
        return str(self.asyncapi["info"]["version"])

    @property
    def numbers(self) -> tuple[int, ...]:
        """Of the version: major, minor, patch."""
        return tuple(map(int, self.version.split(".")))

    @property
    def major(self) -> int:
        return self.numbers[0]

    @property
    def prefix(self) -> str:
        """The setting `rabbitmq.prefix` of the installation that it was exported for."""
        return str(self.asyncapi[asyncapi.PREFIX])


def _read(path: Path, form: type[_Form]) -> dict[str, Any]:
    try:
        content = path.read_bytes()
        form.model_validate_json(content)
    except OSError as error:
        raise NotAContractError(f"{path} cannot be read: {error.strerror}") from None
    except ValidationError as error:
        raise NotAContractError(f"{path} is not of a contract: {_problems(error)}") from None
    found: dict[str, Any] = orjson.loads(content)
    return found


def _problems(error: ValidationError) -> str:
    """The first problems in one line."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    shown = [
        f"{'.'.join(map(str, one['loc']))}: {one['msg']}" if one["loc"] else one["msg"]
        for one in found[:_MAX_SHOWN]
    ]
    more = len(found) - len(shown)
    return "; ".join(shown) + (f"; and {more} more" if more else "")
