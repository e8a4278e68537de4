"""Where the files of a contract lie in its folder."""

from __future__ import annotations

from typing import Final

ASYNCAPI: Final = "asyncapi.json"
SCHEMAS: Final = "schemas"
EXAMPLES: Final = "examples"
