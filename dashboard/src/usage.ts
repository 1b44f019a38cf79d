/** The usage on screen: a snapshot, then windows replaced by their new absolute values. Pure: safe to repeat. */

import type { UsageBody, UsageItem } from "./api.ts";
import { addDecimals, compareDecimals, forDrawing } from "./decimal.ts";
import { type Span, WINDOW_SECONDS, type WindowSize } from "./time.ts";

export interface UsageView {
  /** By window start and dimensions, so that a repeated change is no second one. */
  windows: ReadonlyMap<string, UsageItem>;
  total: string | null;
  asOf: string | null;
}

function identity(item: UsageItem): string {
  const dimensions = Object.entries(item.dimensions ?? {}).sort(([a], [b]) => (a < b ? -1 : 1));
  return `${Date.parse(item.window_start)} ${JSON.stringify(dimensions)}`;
}

export function fromSnapshot(body: UsageBody): UsageView {
  return { windows: new Map(body.items.map((item) => [identity(item), item])), total: body.total, asOf: body.as_of };
}

/** Changed windows carry absolute values: applying a change twice, or after a newer snapshot of it, is harmless. */
export function withChange(view: UsageView | null, body: UsageBody): UsageView {
  const windows = new Map(view?.windows ?? []);
  for (const item of body.items) windows.set(identity(item), item);
  return { windows, total: body.total, asOf: body.as_of };
}

export function withHeartbeat(view: UsageView | null, asOf: string | null): UsageView | null {
  return view === null || asOf === null ? view : { ...view, asOf };
}

export type Combination = "sum" | "max" | "min" | "none";

/** How a group's windows combine into one figure; where only the server can tell (averages, uniques), not at all. */
export function combination(aggregation: string): Combination {
  if (aggregation === "sum" || aggregation === "count") return "sum";
  if (aggregation === "max" || aggregation === "min") return aggregation;
  return "none";
}

export function combine(how: Combination, values: readonly string[]): string | null {
  const [first, ...rest] = values;
  if (first === undefined || how === "none") return null;
  if (how === "sum") return rest.reduce(addDecimals, first);
  const wanted = how === "max" ? 1 : -1;
  return rest.reduce((best, value) => (Math.sign(compareDecimals(value, best)) === wanted ? value : best), first);
}

export interface Group {
  label: string;
  items: readonly UsageItem[];
  /** Exact, or null where windows do not combine. */
  total: string | null;
}

/** Items by the value of one dimension, largest first; without a dimension, one group. */
export function groups(
  windows: ReadonlyMap<string, UsageItem>,
  dimension: string,
  how: Combination,
): readonly Group[] {
  const byLabel = new Map<string, UsageItem[]>();
  for (const item of windows.values()) {
    const label = dimension === "" ? "" : item.dimensions?.[dimension] || "(none)";
    const items = byLabel.get(label);
    if (items === undefined) byLabel.set(label, [item]);
    else items.push(item);
  }
  const found = [...byLabel].map(([label, items]) => ({ label, items, total: combine(how, valuesOf(items)) }));
  const weight = (group: Group): number => forDrawing(group.total ?? String(group.items.length)) ?? 0;
  return found.sort((a, b) => weight(b) - weight(a) || (a.label < b.label ? -1 : 1));
}

function valuesOf(items: readonly UsageItem[]): string[] {
  return items.flatMap((item) => (item.value === null ? [] : [item.value]));
}

/** The start of every window in the span, in seconds: bars get their width from neighbours, present or not. */
export function axis(span: Span, window: WindowSize): number[] {
  const step = WINDOW_SECONDS[window];
  const starts: number[] = [];
  for (let at = span.fromMs / 1000; at < span.toMs / 1000; at += step) starts.push(at);
  return starts;
}

/** One value or null a start. A count or a sum of nothing is nothing to draw, too. */
export function onAxis(starts: readonly number[], items: readonly UsageItem[]): (number | null)[] {
  const values = new Map(items.map((item) => [Date.parse(item.window_start) / 1000, forDrawing(item.value)]));
  return starts.map((at) => values.get(at) ?? null);
}

/** The groups a chart can tell apart; where values add up, the rest become one group of exact sums. */
export function drawnGroups(all: readonly Group[], most: number, how: Combination): readonly Group[] {
  if (all.length <= most || how !== "sum") return all.slice(0, most);
  const rest = new Map<string, UsageItem>();
  for (const item of all.slice(most).flatMap((group) => group.items)) {
    const before = rest.get(item.window_start);
    const value = before?.value == null || item.value === null ? item.value : addDecimals(before.value, item.value);
    rest.set(item.window_start, { ...item, value });
  }
  const items = [...rest.values()];
  return [...all.slice(0, most), { label: "all others", items, total: combine(how, valuesOf(items)) }];
}

/** Each line on top of those before it; a start where no line so far has a value stays empty. */
export function stacked(lines: readonly (readonly (number | null)[])[]): (number | null)[][] {
  const columns: (number | null)[][] = [];
  for (const line of lines) {
    const below = columns.at(-1);
    columns.push(line.map((value, index) => sumOf(value, below?.[index] ?? null)));
  }
  return columns;
}

function sumOf(a: number | null, b: number | null): number | null {
  return a === null ? b : a + (b ?? 0);
}
