/** What the reader chose to look at. Kept in the fragment, which browsers send nowhere, so that a view can be shared. */

import type { Meter } from "./api.ts";
import {
  RANGES,
  type RangeId,
  type Span,
  WINDOW_SECONDS,
  type WindowSize,
  ceilTo,
  fittingWindow,
  floorTo,
  parseUtcField,
  relativeSpan,
} from "./time.ts";

export interface Choice {
  meter: string;
  customer: string;
  range: RangeId;
  window: WindowSize;
  /** "" for none */
  groupBy: string;
  /** as typed, UTC, for the custom range */
  from: string;
  to: string;
}

export const FIRST_CHOICE: Choice = { meter: "", customer: "", range: "1h", window: "minute", groupBy: "", from: "", to: "" };

export function readChoice(fragment: string): Choice {
  const fields = new URLSearchParams(fragment.replace(/^#/, ""));
  const text = (name: keyof Choice): string => fields.get(name) ?? FIRST_CHOICE[name];
  const range = RANGES.find((one) => one.id === fields.get("range"))?.id;
  return {
    meter: text("meter"),
    customer: text("customer"),
    range: range ?? (fields.get("range") === "custom" ? "custom" : FIRST_CHOICE.range),
    window: text("window") in WINDOW_SECONDS ? (text("window") as WindowSize) : FIRST_CHOICE.window,
    groupBy: text("groupBy"),
    from: text("from"),
    to: text("to"),
  };
}

export function writeChoice(choice: Choice): string {
  const fields = new URLSearchParams();
  for (const [name, value] of Object.entries(choice)) if (value !== "") fields.set(name, value);
  if (choice.range !== "custom") {
    fields.delete("from");
    fields.delete("to");
  }
  return `#${fields.toString()}`;
}

export type SpanAnswer = { span: Span } | { sentence: string };

/** The instants a choice means now, or what is wrong with the dates typed. */
export function spanOf(choice: Choice, nowMs: number): SpanAnswer {
  const range = RANGES.find((one) => one.id === choice.range);
  if (range !== undefined) return { span: relativeSpan(range, choice.window, nowMs) };
  const from = parseUtcField(choice.from);
  const to = parseUtcField(choice.to);
  if (from === null || to === null) return { sentence: "Enter both dates to see this range." };
  const span = { fromMs: floorTo(from, choice.window), toMs: ceilTo(to, choice.window) };
  return span.fromMs < span.toMs ? { span } : { sentence: "The range is empty: choose an end after its start." };
}

/** How long the chosen range is, for the windows that fit it. */
export function rangeSeconds(choice: Choice): number {
  const range = RANGES.find((one) => one.id === choice.range);
  if (range !== undefined) return range.seconds;
  const from = parseUtcField(choice.from);
  const to = parseUtcField(choice.to);
  return from === null || to === null ? WINDOW_SECONDS[choice.window] : Math.max(1, (to - from) / 1000);
}

/** The choice with another range, and with that range's own window size where the old one is no good. */
export function withRange(choice: Choice, change: Partial<Choice>): Choice {
  const changed = { ...choice, ...change };
  const range = RANGES.find((one) => one.id === changed.range);
  if (range !== undefined && range.id !== choice.range) return { ...changed, window: range.window };
  return { ...changed, window: fittingWindow(changed.window, rangeSeconds(changed)) };
}

/** What a meter's figure is, in words. */
export function measured(meter: Meter): string {
  const of = meter.value_property ? ` of ${meter.value_property}` : "";
  const words: Record<string, string> = {
    count: "events counted",
    sum: `sum${of}`,
    min: `smallest${of}`,
    max: `largest${of}`,
    avg: `average${of}`,
    latest: `latest${of}`,
    unique_count: `distinct values${of}`,
  };
  return words[meter.aggregation] ?? `${meter.aggregation}${of}`;
}
