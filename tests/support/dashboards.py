"""The shipped dashboards, read as Grafana reads them."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from tests.docs.tables import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

GRAFANA: Final = ROOT / "config" / "grafana"
FILES: Final = sorted((GRAFANA / "dashboards").glob("*.json"))
_METRIC: Final = re.compile(r"\b((?:bridge|rabbitmq|prometheus)_\w+|up|ALERTS(?:_FOR_STATE)?)\b")
_QUOTED: Final = re.compile(r'"(?:[^"\\]|\\.)*"')
_VARIABLES: Final = {"${prefix}": "", "$queue": ".*", "$__rate_interval": "1m"}
"""As they are when somebody opens a dashboard of a bridge without a prefix."""


class Panel(NamedTuple):
    board: str
    """The file's name."""
    document: dict[str, Any]

    @property
    def name(self) -> str:
        return f"{self.board}: {self.document['title']}"

    @property
    def queries(self) -> list[str]:
        """As Grafana sends them."""
        return [filled(target["expr"]) for target in self.document["targets"]]


def document(board: str) -> dict[str, Any]:
    """A dashboard by the name of its file."""
    read: dict[str, Any] = json.loads((GRAFANA / "dashboards" / board).read_text("utf-8"))
    return read


def panels() -> Iterator[Panel]:
    """Of all dashboards, without the rows' headings."""
    for file in FILES:
        for panel in document(file.name)["panels"]:
            if panel["type"] != "row":
                yield Panel(file.name, panel)


def filled(expression: str) -> str:
    """A query with the variables' values in it."""
    for name, value in _VARIABLES.items():
        expression = expression.replace(name, value)
    return expression


def metrics_in(expression: str) -> set[str]:
    """The metrics that a query names."""
    return set(_METRIC.findall(_QUOTED.sub('""', expression)))
