import { useMemo } from "preact/hooks";

import type { UsageItem } from "../api.ts";
import type { Choice } from "../choice.ts";
import { groupDigits } from "../decimal.ts";
import { useTick } from "../live.ts";
import { type Span, ceilTo } from "../time.ts";
import { type Combination, type Group, axis, drawnGroups, onAxis, stacked } from "../usage.ts";
import { Chart, type ChartSeries } from "./chart.tsx";

interface Props {
  groups: readonly Group[];
  how: Combination;
  choice: Choice;
  span: Span;
}

/** What adds up is stacked in bars; what does not is bars alone, or lines where there are several. */
export function UsageChart({ groups, how, choice, span }: Props) {
  useTick(1000);
  const lastEnd = useMemo(() => latestEnd(groups), [groups]);
  const to = choice.range === "custom" ? span.toMs : visibleEnd(lastEnd, choice, span);
  const drawn = useMemo(() => drawing(groups, how, choice, { ...span, toMs: to }), [groups, how, choice, span.fromMs, to]);
  return (
    <Chart
      label={`Usage of ${choice.customer} by ${choice.window}. The same figures are in the table below.`}
      height={280}
      from={span.fromMs / 1000}
      to={to / 1000}
      columns={drawn.columns}
      series={drawn.series}
      days={choice.window === "day"}
      value={(series, index) => drawn.text(series, index)}
    />
  );
}

/** A relative range is asked a little into the future; it is drawn up to the window that is filling now. */
function visibleEnd(lastEnd: number, choice: Choice, span: Span): number {
  return Math.min(span.toMs, Math.max(lastEnd, ceilTo(Date.now(), choice.window)));
}

function latestEnd(groups: readonly Group[]): number {
  const ends = groups.flatMap((group) => group.items.map((item) => Date.parse(item.window_end)));
  return ends.reduce((last, end) => Math.max(last, end), 0);
}

interface Drawing {
  columns: readonly (readonly (number | null)[])[];
  series: readonly ChartSeries[];
  text: (series: number, index: number) => string | null;
}

const COLORS = ["--c0", "--c1", "--c2", "--c3", "--c4", "--c5", "--c6"];

export function colorOf(index: number): string {
  return COLORS[index] ?? "--c-other";
}

function drawing(groups: readonly Group[], how: Combination, choice: Choice, span: Span): Drawing {
  const starts = axis(span, choice.window);
  const shown = choice.groupBy === "" ? groups : drawnGroups(groups, COLORS.length, how);
  const lines = shown.map((group) => onAxis(starts, group.items));
  const texts = shown.map((group) => valueTexts(group.items));
  const negative = lines.some((line) => line.some((value) => value !== null && value < 0));
  const stack = how === "sum" && !negative;
  const bars = shown.length <= 1 || stack;
  const series = shown.map((group, index) => ({
    label: group.label,
    color: choice.groupBy === "" ? "--accent" : colorOf(index),
    kind: bars ? ("bars" as const) : ("line" as const),
  }));
  // The tallest is drawn first, so that each lower part of a stack is painted over it.
  const order = shown.map((_group, index) => (stack ? shown.length - 1 - index : index));
  const columns = stack ? stacked(lines) : lines;
  return {
    columns: [starts, ...order.map((index) => columns[index] ?? [])],
    series: order.flatMap((index) => series[index] ?? []),
    text: (at, index) => texts[order[at] ?? 0]?.get((starts[index] ?? 0) * 1000) ?? null,
  };
}

function valueTexts(items: readonly UsageItem[]): Map<number, string> {
  return new Map(items.flatMap((item) => (item.value === null ? [] : [[Date.parse(item.window_start), groupDigits(item.value)] as const])));
}

