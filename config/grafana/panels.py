"""The kinds of panels that the dashboards are made of. A panel has a title, what it means and what to do, and a runbook."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.builders import prometheus, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common, dashboard, units
from grafana_foundation_sdk.models.prometheus import PromQueryFormat
from grafana_foundation_sdk.models.table import Options as TableOptions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

GREEN: Final = "green"
YELLOW: Final = "yellow"
RED: Final = "red"

PER_SECOND: Final = "suffix:/s"
COUNT: Final = units.Short
SECONDS: Final = units.Seconds
SHARE: Final = units.PercentUnit
BYTES: Final = units.BytesIEC

SOURCE: Final = dashboard.DataSourceRef(type_val="prometheus", uid="${datasource}")
WIDTH: Final = 24
"""Columns of Grafana's grid."""
HALF, THIRD, QUARTER, SIXTH = WIDTH // 2, WIDTH // 3, WIDTH // 4, WIDTH // 6


@dataclass(frozen=True, slots=True)
class Query:
    """PromQL, and how each of its series is called: `{{label}}` is filled in."""

    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class About:
    """What a person reads of a panel: its title, what it means and what to do, and the section of docs/ that has more."""

    title: str
    says: str
    see: str


State = tuple[str, str]
"""The text of a value, and its colour."""


class Made(Builder[dashboard.Panel]):
    """A panel that is ready; the dashboard's builder takes builders."""

    def __init__(self, panel: dashboard.Panel) -> None:
        self._panel = panel

    def build(self) -> dashboard.Panel:
        return self._panel


def series(
    about: About,
    *queries: Query,
    unit: str,
    limits: Sequence[tuple[float, str]] = (),
    stacked: bool = False,
    width: int = HALF,
) -> Made:
    """Lines over time.

    Args:
        about: its texts.
        queries: each gives any number of lines.
        unit: of Grafana's units.
        limits: from which value on it is of this colour, with a line there.
        stacked: whether the lines are parts of a whole.
        width: columns of the grid.
    """
    panel = (
        timeseries.Panel()
        .draw_style(common.GraphDrawStyle.LINE)
        .line_width(1)
        .fill_opacity(25 if stacked else 5)
        .show_points(common.VisibilityMode.NEVER)
        .unit(unit)
        .min(0)
        .legend(
            common_builders.VizLegendOptions()
            .show_legend(show_legend=True)
            .display_mode(common.LegendDisplayMode.LIST)
            .placement(common.LegendPlacement.BOTTOM)
        )
        .tooltip(
            common_builders.VizTooltipOptions()
            .mode(common.TooltipDisplayMode.MULTI)
            .sort(common.SortOrder.DESCENDING)
        )
        .thresholds(_thresholds(limits))
        .span(width)
        .height(8)
    )
    if stacked:
        panel.stacking(common_builders.StackingConfig().mode(common.StackingMode.NORMAL).group("A"))
    if limits:
        panel.thresholds_style(
            common_builders.GraphThresholdsStyleConfig().mode(common.GraphThresholdsStyleMode.DASHED)
        )
    panel.targets([_target(query, letter) for query, letter in zip(queries, "ABCDEF", strict=False)])
    return _finished(panel, about)


def figure(
    about: About,
    query: Query,
    *,
    unit: str,
    limits: Sequence[tuple[float, str]] = (),
    states: Mapping[str, State] | None = None,
    no_value: str = "",
    width: int = QUARTER,
) -> Made:
    """What holds now, large. With `states`, values are shown as these texts, and nothing else is."""
    panel = (
        stat.Panel()
        .graph_mode(common.BigValueGraphMode.NONE)
        .color_mode(common.BigValueColorMode.BACKGROUND if states else common.BigValueColorMode.VALUE)
        .text_mode(common.BigValueTextMode.VALUE_AND_NAME if query.legend else common.BigValueTextMode.VALUE)
        .unit(unit)
        .reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]))
        .thresholds(_thresholds(limits))
        .span(width)
        .height(4)
        .targets([_target(query, "A").instant()])
    )
    if states:
        panel.mappings([_mapping(states)])
    if no_value:
        panel.no_value(no_value)
    return _finished(panel, about)


def timeline(
    about: About, *queries: Query, states: Mapping[str, State], width: int = HALF, height: int = 8
) -> Made:
    """Since when something has been in which state."""
    panel = (
        statetimeline.Panel()
        .unit(COUNT)
        .show_value(common.VisibilityMode.NEVER)
        .merge_values(merge_values=True)
        .fill_opacity(80)
        .mappings([_mapping(states)])
        .thresholds(_thresholds(()))
        .span(width)
        .height(height)
        .targets([_target(query, letter) for query, letter in zip(queries, "ABCDEF", strict=False)])
    )
    return _finished(panel, about)


@dataclass(frozen=True, slots=True)
class Column:
    """Of a table: the field that Prometheus' answer has, its heading, and how it is shown."""

    field: str
    heading: str
    unit: str = COUNT
    limits: Sequence[tuple[float, str]] = ()
    texts: Mapping[str, str] | None = None
    width: int = 0
    """Pixels; 0: what is left."""


def rows(
    about: About,
    *queries: Query,
    columns: Sequence[Column],
    hidden: Sequence[str] = (),
    no_value: str = "",
    height: int = 8,
) -> Made:
    """What holds now, as a table. Several queries are joined by the labels that they share."""
    panel = (
        table.Panel()
        .unit(COUNT)
        .cell_height(common.TableCellHeight.SM)
        .thresholds(_thresholds(()))
        .span(WIDTH)
        .height(height)
        .no_value(no_value)
        .targets(
            [
                _target(query, letter).instant().format(PromQueryFormat.TABLE)
                for query, letter in zip(queries, "ABCDEF", strict=False)
            ]
        )
        .with_transformation(dashboard.DataTransformerConfig(id_val="merge", options={}))
        .with_transformation(
            dashboard.DataTransformerConfig(
                id_val="organize",
                options={
                    "excludeByName": dict.fromkeys(["Time", *hidden], True),
                    "indexByName": {column.field: place for place, column in enumerate(columns)},
                    "renameByName": {column.field: column.heading for column in columns},
                },
            )
        )
    )
    for column in columns:
        panel.override_by_name(column.heading, _properties(column))
    options = panel.build().options
    if isinstance(options, TableOptions):
        options.footer = None  # which newer releases no longer have
    return _finished(panel, about)


def _properties(column: Column) -> list[dashboard.DynamicConfigValue]:
    made = [dashboard.DynamicConfigValue(id_val="unit", value=column.unit)]
    if column.limits:
        made += [
            dashboard.DynamicConfigValue(id_val="thresholds", value=_thresholds(column.limits).build()),
            dashboard.DynamicConfigValue(
                id_val="custom.cellOptions", value=common.TableColorTextCellOptions()
            ),
        ]
    if column.texts:
        texts = {key: dashboard.ValueMappingResult(text=text) for key, text in column.texts.items()}
        made += [
            dashboard.DynamicConfigValue(id_val="mappings", value=[dashboard.ValueMap(options=texts)]),
            dashboard.DynamicConfigValue(
                id_val="custom.cellOptions", value=common.TableAutoCellOptions(wrap_text=True)
            ),
        ]
    if column.width:
        made.append(dashboard.DynamicConfigValue(id_val="custom.width", value=column.width))
    return made


def _target(query: Query, letter: str) -> prometheus.Dataquery:
    made = prometheus.Dataquery().expr(query.expr).ref_id(letter).datasource(SOURCE)
    return made.range().legend_format(query.legend or "__auto")


def _thresholds(limits: Sequence[tuple[float, str]]) -> builders.ThresholdsConfig:
    steps = [dashboard.Threshold(value=None, color=GREEN)]
    steps += [dashboard.Threshold(value=value, color=colour) for value, colour in limits]
    return builders.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(steps)


def _mapping(states: Mapping[str, State]) -> dashboard.ValueMap:
    return dashboard.ValueMap(
        options={
            value: dashboard.ValueMappingResult(text=text, color=colour, index=place)
            for place, (value, (text, colour)) in enumerate(states.items())
        }
    )


def _finished(builder: Builder[dashboard.Panel], about: About) -> Made:
    panel = builder.build()
    panel.title, panel.description, panel.datasource = about.title, about.says, SOURCE
    panel.links = [dashboard.DashboardLink(title="Runbook", url=f"${{docs}}/{about.see}", target_blank=True)]
    return Made(panel)
