/** Windows, ranges and the way instants are written. Everything is UTC; local time is only ever a hint. */

export type WindowSize = "minute" | "hour" | "day";
export type RangeId = "15m" | "1h" | "6h" | "24h" | "7d" | "30d" | "12mo" | "custom";

export const WINDOW_SECONDS: Record<WindowSize, number> = { minute: 60, hour: 3600, day: 86_400 };

export interface Range {
  id: RangeId;
  label: string;
  seconds: number;
  window: WindowSize;
}

export const RANGES: readonly Range[] = [
  { id: "15m", label: "Last 15 minutes", seconds: 900, window: "minute" },
  { id: "1h", label: "Last hour", seconds: 3600, window: "minute" },
  { id: "6h", label: "Last 6 hours", seconds: 21_600, window: "minute" },
  { id: "24h", label: "Last 24 hours", seconds: 86_400, window: "hour" },
  { id: "7d", label: "Last 7 days", seconds: 604_800, window: "hour" },
  { id: "30d", label: "Last 30 days", seconds: 2_592_000, window: "day" },
  { id: "12mo", label: "Last 12 months", seconds: 31_622_400, window: "day" },
];

/** More windows than a wide screen has pixels tell nobody more, and cost the server a long answer. */
export const MOST_WINDOWS = 1500;

export interface Span {
  fromMs: number;
  toMs: number;
}

/** The instant now lies in a window that is still filling: relative ranges reach a little past it. */
const HEADROOM_WINDOWS: Record<WindowSize, number> = { minute: 5, hour: 1, day: 1 };

export function floorTo(ms: number, window: WindowSize): number {
  const step = WINDOW_SECONDS[window] * 1000;
  return Math.floor(ms / step) * step;
}

export function ceilTo(ms: number, window: WindowSize): number {
  const step = WINDOW_SECONDS[window] * 1000;
  return Math.ceil(ms / step) * step;
}

/** [from, to) on window borders; `to` of a relative range lies a few windows ahead, after which it is asked anew. */
export function relativeSpan(range: Range, window: WindowSize, nowMs: number): Span {
  const step = WINDOW_SECONDS[window] * 1000;
  return {
    fromMs: floorTo(nowMs - range.seconds * 1000, window),
    toMs: ceilTo(nowMs, window) + HEADROOM_WINDOWS[window] * step,
  };
}

export function windowFits(window: WindowSize, seconds: number): boolean {
  return seconds > 0 && seconds / WINDOW_SECONDS[window] <= MOST_WINDOWS;
}

/** The window asked for when it fits the range, else the finest that does. */
export function fittingWindow(wanted: WindowSize, seconds: number): WindowSize {
  if (windowFits(wanted, seconds)) return wanted;
  const finest = (["minute", "hour", "day"] as const).find((window) => windowFits(window, seconds));
  return finest ?? "day";
}

/** "2026-11-22T10:00" as typed into a date field, read as UTC; null when it is not an instant. */
export function parseUtcField(text: string): number | null {
  if (!/^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(:\d{2})?$/.test(text)) return null;
  const ms = Date.parse(`${text}Z`);
  return Number.isNaN(ms) ? null : ms;
}

export function utcField(ms: number): string {
  return new Date(ms).toISOString().slice(0, 16);
}

const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

const two = (value: number): string => String(value).padStart(2, "0");

export function utcDay(ms: number): string {
  const date = new Date(ms);
  return `${date.getUTCDate()} ${MONTHS[date.getUTCMonth()] ?? ""}`;
}

export function utcClock(ms: number, seconds: boolean): string {
  const date = new Date(ms);
  const clock = `${two(date.getUTCHours())}:${two(date.getUTCMinutes())}`;
  return seconds ? `${clock}:${two(date.getUTCSeconds())}` : clock;
}

/** "22 Nov 2026, 10:00 UTC" */
export function utcText(ms: number, seconds = false): string {
  return `${utcDay(ms)} ${new Date(ms).getUTCFullYear()}, ${utcClock(ms, seconds)} UTC`;
}

/** The same instant where the reader is, for a tooltip. */
export function localText(ms: number, zone?: string): string {
  const format = new Intl.DateTimeFormat("en-GB", {
    dateStyle: "medium",
    timeStyle: "medium",
    ...(zone === undefined ? {} : { timeZone: zone }),
  });
  const name = zone ?? Intl.DateTimeFormat().resolvedOptions().timeZone;
  return `${format.format(ms)} ${name} (local)`;
}

/** A window's start as its axis and table show it: days by date, the rest by the clock too. */
export function windowText(ms: number, window: WindowSize): string {
  return window === "day" ? `${utcDay(ms)} ${new Date(ms).getUTCFullYear()}` : `${utcDay(ms)}, ${utcClock(ms, false)}`;
}

/** Milliseconds in the unit a person would use: "420 ms", "3.2 s", "4 min 10 s", "2 h 5 min", "3 d 4 h". */
export function ageText(ms: number): string {
  const age = Math.max(0, ms);
  if (age < 1000) return `${Math.round(age)} ms`;
  if (age < 59_950) return `${(age / 1000).toFixed(1)} s`;
  const seconds = Math.round(age / 1000);
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 1440) return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  const hours = Math.floor(minutes / 60);
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}
