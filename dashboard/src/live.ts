/** What the page follows: the overall rate, and the usage of one meter and customer. */

import { useEffect, useRef, useState } from "preact/hooks";

import { type Problem, type Stats, type UsageBody, address, getJson, problemFrom } from "./api.ts";
import { type LinkState, type ServerEvent, openStream } from "./sse.ts";
import { type Span, type WindowSize } from "./time.ts";
import { type UsageView, fromSnapshot, withChange, withHeartbeat } from "./usage.ts";

export const CHART_SECONDS = 300;

export interface RatePoint {
  at: number;
  perSecond: number;
}

export interface LiveStats {
  stats: Stats | null;
  /** When the last report arrived, on this page's monotonic clock: the reader's wall clock may be wrong. */
  receivedAt: number;
  rates: readonly RatePoint[];
  link: LinkState;
}

/** A hidden tab holds no connection: browsers allow few to one origin. */
export function useVisible(): boolean {
  const [visible, setVisible] = useState(document.visibilityState !== "hidden");
  useEffect(() => {
    const look = (): void => setVisible(document.visibilityState !== "hidden");
    document.addEventListener("visibilitychange", look);
    return () => document.removeEventListener("visibilitychange", look);
  }, []);
  return visible;
}

/** Re-renders every `everyMs` and answers performance.now(). */
export function useTick(everyMs: number): number {
  const [now, setNow] = useState(() => performance.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(performance.now()), everyMs);
    return () => clearInterval(timer);
  }, [everyMs]);
  return now;
}

export function useStats(apiKey: string): LiveStats {
  const visible = useVisible();
  const [live, setLive] = useState<LiveStats>({ stats: null, receivedAt: 0, rates: [], link: { kind: "connecting" } });
  useEffect(() => {
    if (!visible) return;
    return openStream({
      key: apiKey,
      url: "/v1/stats/stream",
      onState: (link) => setLive((before) => (before.link.kind === link.kind && link.kind === "live" ? before : { ...before, link })),
      onEvent: (event) => {
        if (event.event !== "stats") return;
        const stats = withKnownInstants(JSON.parse(event.data) as Stats);
        setLive((before) => ({ ...before, stats, receivedAt: performance.now(), rates: withRate(before.rates, stats) }));
      },
    });
  }, [apiKey, visible]);
  return live;
}

/** Before the first block anything is known until 1970: to a reader, not known at all. */
function known(asOf: string | null): string | null {
  return asOf === null || Date.parse(asOf) <= 0 ? null : asOf;
}

function withKnownInstants(stats: Stats): Stats {
  const asOf = known(stats.as_of);
  const partitions = stats.partitions.map((one) => ({ ...one, as_of: known(one.as_of) }));
  return { ...stats, as_of: asOf, freshness_ms: asOf === null ? null : stats.freshness_ms, partitions };
}

function withRate(rates: readonly RatePoint[], stats: Stats): readonly RatePoint[] {
  const point = { at: Date.parse(stats.at) / 1000, perSecond: Number(stats.events_per_second) };
  // A restarted server may report an earlier instant; the chart needs rising ones.
  return [...rates.filter((rate) => rate.at > point.at - CHART_SECONDS && rate.at < point.at), point];
}

export interface UsageQuestion {
  meter: string;
  customer: string;
  window: WindowSize;
  span: Span;
  /** "" for none */
  groupBy: string;
}

export interface LiveUsage {
  view: UsageView | null;
  link: LinkState;
  receivedAt: number;
}

/** Between two questions for grouped usage, whose stream only says that something changed. */
const ASK_AGAIN_MS = 1000;

const NOTHING: LiveUsage = { view: null, link: { kind: "connecting" }, receivedAt: 0 };

export function useUsage(apiKey: string, question: UsageQuestion | null): LiveUsage {
  const visible = useVisible();
  const [live, setLive] = useState<LiveUsage>(NOTHING);
  const shown = useRef("");
  const { meter = "", customer = "", window = "hour", groupBy = "" } = question ?? {};
  const fromMs = question?.span.fromMs ?? 0;
  const toMs = question?.span.toMs ?? 0;

  useEffect(() => {
    if (question === null || !visible) return;
    // A range that slides on keeps what it shows until the new answer is there; another subject starts empty.
    const subject = JSON.stringify([meter, customer, window, groupBy]);
    if (shown.current !== subject) setLive(NOTHING);
    shown.current = subject;
    return followUsage(apiKey, { meter, customer, window, groupBy, span: { fromMs, toMs } }, (change) => {
      setLive((before) => ({ ...before, ...change(before), receivedAt: performance.now() }));
    });
  }, [apiKey, visible, question === null, meter, customer, window, groupBy, fromMs, toMs]);
  return live;
}

type Change = (before: LiveUsage) => Partial<LiveUsage>;

function followUsage(apiKey: string, question: UsageQuestion, update: (change: Change) => void): () => void {
  const filters = {
    meter: question.meter,
    customer: question.customer,
    from: new Date(question.span.fromMs).toISOString(),
    to: new Date(question.span.toMs).toISOString(),
    window: question.window,
  };
  const leaving = new AbortController();
  const grouped = question.groupBy !== "";
  let timer: ReturnType<typeof setTimeout> | null = null;
  let stale = false;

  async function ask(): Promise<Problem | null> {
    const url = address("/v1/usage", { ...filters, timezone: "UTC", group_by: question.groupBy });
    try {
      const body = await getJson<UsageBody>(apiKey, url, leaving.signal);
      if (!leaving.signal.aborted) update(() => ({ view: fromSnapshot(body) }));
      return null;
    } catch (error) {
      return problemFrom(error);
    }
  }

  /** A change that arrives while the question is out needs another answer: this one may not know of it yet. */
  function askSoon(): void {
    stale = true;
    timer ??= setTimeout(async () => {
      stale = false;
      const problem = await ask();
      timer = null;
      if (!leaving.signal.aborted && (stale || problem?.retry)) askSoon();
    }, ASK_AGAIN_MS);
  }

  function onEvent(event: ServerEvent): void {
    if (event.event === "heartbeat") {
      const { as_of } = JSON.parse(event.data) as { as_of: string | null };
      update((before) => ({ view: withHeartbeat(before.view, as_of) }));
    } else if (event.event === "snapshot" || event.event === "change") {
      if (grouped) return askSoon();
      const body = JSON.parse(event.data) as UsageBody;
      update((before) => ({ view: event.event === "snapshot" ? fromSnapshot(body) : withChange(before.view, body) }));
    }
  }

  let close = (): void => undefined;
  void ask().then((problem) => {
    if (leaving.signal.aborted) return;
    if (problem !== null && !problem.retry) return update(() => ({ link: { kind: "failed", problem } }));
    close = openStream({
      key: apiKey,
      url: address("/v1/usage/stream", filters),
      onEvent,
      onState: (link) => update(() => ({ link })),
    });
  });
  return () => {
    leaving.abort();
    if (timer !== null) clearTimeout(timer);
    close();
  };
}
