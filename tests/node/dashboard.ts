// What @grafana/schema says of a dashboard, with the options of each kind of panel, for values as JSON has them.
import type { Dashboard, FieldConfig, FieldConfigSource, Panel, RowPanel } from "@grafana/schema";
import type { Options as Stat } from "@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen";
import type * as timeline from "@grafana/schema/dist/esm/raw/composable/statetimeline/panelcfg/x/StateTimelinePanelCfg_types.gen";
import type * as table from "@grafana/schema/dist/esm/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen";
import type * as series from "@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen";

// In JSON a member of an enumeration is its text or its number.
type Json<T> = T extends string
  ? `${T}`
  : T extends number
    ? `${T}` extends `${infer N extends number}` ? N : T
    : T extends (infer E)[]
      ? Json<E>[]
      : T extends object
        ? { [K in keyof T]: Json<T[K]> }
        : T;

interface Config<Custom> extends Omit<FieldConfigSource, "defaults"> {
  defaults: Omit<FieldConfig, "custom"> & { custom?: Partial<Custom> };
}

interface Kind<Name, Options, Custom> extends Omit<Panel, "type" | "options" | "fieldConfig"> {
  type: Name;
  options: Partial<Options>;
  fieldConfig: Config<Custom>;
}

type Shown =
  | Kind<"stat", Stat, never>
  | Kind<"timeseries", series.Options, series.FieldConfig>
  | Kind<"state-timeline", timeline.Options, timeline.FieldConfig>
  | Kind<"table", table.Options, table.FieldConfig>;

interface Whole extends Omit<Dashboard, "panels"> {
  panels: (Shown | RowPanel)[];
}

export type Shipped = Json<Whole>;
