"""A dashboard: its panels in rows, its variables, and the links to the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.models import dashboard

from config.grafana.panels import SOURCE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from config.grafana.panels import Made

DOCS: Final = "https://git.example.org/bridge/blob/main/docs"
"""Where people read the pages of docs/: yours. After a change: `make dashboards`."""
TAG: Final = "bridge"


@dataclass(frozen=True, slots=True)
class Board:
    """One dashboard; its uid is also the name of its file."""

    uid: str
    title: str
    says: str
    rows: Sequence[tuple[str, Sequence[Made]]]
    """The heading of a row, and its panels. The first may have no heading, and stands at the top then."""
    by_queue: bool = False
    """Whether one chooses queues of subscribers on it, as the variable `queue`."""


def made(board: Board) -> dashboard.Dashboard:
    """As Grafana's model has it."""
    builder = (
        builders.Dashboard(board.title)
        .uid(board.uid)
        .description(board.says)
        .tags([TAG])
        .readonly()
        .time("now-3h", "now")
        .refresh("30s")
        .timezone("browser")
        .tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
        .with_variable(builders.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
        .with_variable(_text("prefix", "rabbitmq.prefix", ""))
        .with_variable(_text("docs", "Docs at", DOCS))
        .link(
            builders.DashboardLink("The bridge")
            .type(dashboard.DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .as_dropdown(as_dropdown=False)
            .include_vars(include_vars=True)
            .keep_time(keep_time=True)
        )
    )
    if board.by_queue:
        builder.with_variable(_queues())
    number = 0
    for heading, panels in board.rows:
        if heading:
            number += 1
            builder.with_row(builders.Row(heading).id(number))
        for panel in panels:
            number += 1
            panel.build().id_val = number
            builder.with_panel(panel)
    document = builder.build()
    for variable in document.templating.list_val or ():
        # Of variables that are intervals, which is more than the schema of newer releases has for others.
        variable.auto = variable.auto_min = variable.auto_count = None
    return document


def _text(name: str, label: str, value: str) -> builders.TextBoxVariable:
    return (
        builders.TextBoxVariable(name)
        .label(label)
        .default_value(value)
        .current(dashboard.VariableOption(selected=True, text=value, value=value))
    )


def _queues() -> builders.QueryVariable:
    return (
        builders.QueryVariable("queue")
        .label("Queue")
        .datasource(SOURCE)
        .query("label_values(bridge_subscriber_ready_messages, queue)")
        .refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(dashboard.VariableSort.ALPHABETICAL_ASC)
        .multi(multi=True)
        .include_all(include_all=True)
        .all_value(".*")
        .current(dashboard.VariableOption(selected=True, text="All", value="$__all"))
    )
