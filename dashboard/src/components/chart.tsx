import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";

import { localText, utcClock, utcDay, utcText } from "../time.ts";

export interface ChartSeries {
  label: string;
  /** the name of a custom property of the style sheet, so that charts follow light and dark */
  color: string;
  kind: "area" | "bars" | "line";
}

interface Props {
  /** what the drawing says, for those who do not see it */
  label: string;
  /** at least this many pixels; more where the layout has room */
  height: number;
  /** seconds since the epoch */
  from: number;
  to: number;
  /** the x values, then one column a series */
  columns: readonly (readonly (number | null)[])[];
  series: readonly ChartSeries[];
  /** the exact text of a value: drawn numbers are approximate */
  value: (series: number, index: number) => string | null;
  seconds?: boolean;
  days?: boolean;
}

const DARK = matchMedia("(prefers-color-scheme: dark)");
const COMPACT = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

export function Chart(props: Props) {
  const host = useRef<HTMLDivElement>(null);
  const readout = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const latest = useRef(props);
  latest.current = props;
  const shape = JSON.stringify(props.series);

  useEffect(() => {
    const element = host.current;
    if (element === null) return;
    const drawn = new uPlot(options(element, latest, readout), data(latest.current), element);
    plot.current = drawn;
    const watch = new ResizeObserver(() => drawn.setSize(size(element)));
    watch.observe(element);
    // Colours are read whenever something is drawn; the frame after the change has the new ones.
    const repaint = (): void => void requestAnimationFrame(() => plot.current === drawn && drawn.redraw());
    DARK.addEventListener("change", repaint);
    return () => {
      DARK.removeEventListener("change", repaint);
      watch.disconnect();
      drawn.destroy();
      plot.current = null;
    };
  }, [shape]);

  useEffect(() => {
    const drawn = plot.current;
    if (drawn === null) return;
    drawn.batch(() => {
      drawn.setData(data(props), false);
      drawn.setScale("x", { min: props.from, max: props.to });
    });
  }, [props.columns, props.from, props.to]);

  return (
    <div class="chart" ref={host} role="img" aria-label={props.label} style={{ minHeight: `${props.height}px` }}>
      <div class="readout" ref={readout} hidden />
    </div>
  );
}

/** The host's box, which the style sheet may let grow; the drawing lies over it and never moves its border. */
function size(host: HTMLElement): { width: number; height: number } {
  return { width: Math.max(host.clientWidth, 50), height: Math.max(host.clientHeight, 50) };
}

function data(props: Props): uPlot.AlignedData {
  return props.columns as unknown as uPlot.AlignedData;
}

function options(host: HTMLElement, latest: { current: Props }, readout: { current: HTMLDivElement | null }): uPlot.Options {
  const styles = getComputedStyle(host);
  const color = (name: string) => (): string => styles.getPropertyValue(name).trim();
  const { series, from, to } = latest.current;
  const axis = { stroke: color("--muted"), font: `11px ${styles.fontFamily}`, ticks: { show: false } };
  const empty = (): boolean => !latest.current.columns.slice(1).some((column) => column.some((value) => value !== null && value !== 0));
  return {
    ...size(host),
    padding: [8, 22, 0, 0],
    legend: { show: false },
    cursor: { y: false, drag: { x: false, y: false }, points: { show: series[0]?.kind !== "bars" } },
    scales: { x: { time: true, min: from, max: to }, y: { range: (_plot, low, high) => valueRange(low, high) } },
    axes: [
      { ...axis, grid: { show: false }, size: 26, space: 72, values: (_plot, splits) => splits.map((at, i) => tick(at, splits[i - 1])) },
      { ...axis, grid: { stroke: color("--line"), width: 1 }, size: 52, space: 34, values: (_plot, splits) => splits.map((value) => (value !== 0 && empty() ? "" : COMPACT.format(value))) },
    ],
    tzDate: (at) => uPlot.tzDate(new Date(at * 1000), "Etc/UTC"),
    series: [{}, ...series.map((one) => drawnSeries(one, color(one.color)))],
    hooks: { setCursor: [(plot) => showReadout(plot, latest.current, readout.current)] },
  };
}

function drawnSeries(one: ChartSeries, color: () => string): uPlot.Series {
  const bars = uPlot.paths.bars?.({ size: [0.78, 48], align: 1, radius: 0.15 });
  if (one.kind === "bars") return { label: one.label, stroke: color, fill: color, width: 0, points: { show: false }, ...(bars ? { paths: bars } : {}) };
  const line = { label: one.label, stroke: color, width: 1.75 };
  return one.kind === "area" ? { ...line, fill: () => `${color()}22`, points: { show: false } } : { ...line, spanGaps: true };
}

/** From zero, so that bars can be compared; below it when values are negative. */
function valueRange(low: number | null, high: number | null): [number, number] {
  const top = Math.max(0, high ?? 0);
  const bottom = Math.min(0, low ?? 0);
  if (top === 0 && bottom === 0) return [0, 1];
  return [bottom * 1.08, top * 1.08];
}

/** The clock, and the day where it begins or the axis does. */
function tick(at: number, before: number | undefined): string {
  const ms = at * 1000;
  if (ms % 86_400_000 === 0) return utcDay(ms);
  const spacing = before === undefined ? 0 : at - before;
  return utcClock(ms, spacing > 0 && spacing < 60);
}

function showReadout(plot: uPlot, props: Props, element: HTMLDivElement | null): void {
  if (element === null) return;
  const index = plot.cursor.idx;
  const at = index == null ? undefined : props.columns[0]?.[index];
  const rows = index == null ? [] : props.series.flatMap((one, i) => readoutRow(one, props.value(i, index)));
  element.hidden = at == null || rows.length === 0;
  if (at == null || element.hidden) return;
  const ms = at * 1000;
  element.replaceChildren(
    line("readout-at", props.days === true ? `${utcDay(ms)} ${new Date(ms).getUTCFullYear()} UTC` : utcText(ms, props.seconds)),
    ...rows,
    line("readout-local", localText(ms)),
  );
  const left = (plot.cursor.left ?? 0) + plot.bbox.left / devicePixelRatio;
  const room = plot.width - element.offsetWidth;
  element.style.transform = `translateX(${Math.max(0, Math.min(room, left > plot.width / 2 ? left - element.offsetWidth - 14 : left + 14))}px)`;
}

function readoutRow(one: ChartSeries, text: string | null): HTMLElement[] {
  if (text === null) return [];
  const row = line("readout-row", "");
  const swatch = document.createElement("i");
  swatch.style.background = `var(${one.color})`;
  const value = document.createElement("b");
  value.textContent = text;
  row.append(swatch, value, ` ${one.label}`);
  return [row];
}

function line(name: string, text: string): HTMLElement {
  const element = document.createElement("div");
  element.className = name;
  element.textContent = text;
  return element;
}
