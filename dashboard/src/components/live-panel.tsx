import { useMemo } from "preact/hooks";

import type { PartitionStats } from "../api.ts";
import { groupDigits } from "../decimal.ts";
import { CHART_SECONDS, type LiveStats, useTick } from "../live.ts";
import { ageText } from "../time.ts";
import { Chart } from "./chart.tsx";
import { Instant } from "./instant.tsx";

/** Reports come once a second; until one is overdue the last figure stands, then its age counts on. */
const OVERDUE_MS = 2500;
const FRESH_MS = 2000;
const BEHIND_MS = 15_000;

export function LivePanel({ live }: { live: LiveStats }) {
  return (
    <div class="live">
      <RatePanel live={live} />
      <FreshnessPanel live={live} />
    </div>
  );
}

const RATE = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const SLOW_RATE = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });

function rateText(perSecond: number): string {
  return (perSecond < 10 ? SLOW_RATE : RATE).format(perSecond);
}

const RATE_SERIES = [{ label: "events/s", color: "--accent", kind: "area" as const }];

function RatePanel({ live }: { live: LiveStats }) {
  const { stats, rates } = live;
  const now = rates.at(-1);
  const columns = useMemo(() => [rates.map((rate) => rate.at), rates.map((rate) => rate.perSecond)], [rates]);
  const peak = rates.reduce((most, rate) => Math.max(most, rate.perSecond), 0);
  const shown = now === undefined ? "\u2014" : rateText(now.perSecond);
  return (
    <section class="panel rate" aria-labelledby="rate-title">
      <div class="figure-row">
        <div>
          <h2 id="rate-title">Events per second</h2>
          <p class={`figure ${live.link.kind === "live" ? "" : "stale"}`} data-testid="rate">
            {shown}
          </p>
        </div>
        <dl class="counters">
          <Counter name="Accepted" value={stats?.accepted} />
          <Counter name="Stored" value={stats?.stored} />
          <Counter name="Duplicate" value={stats?.duplicate} />
          <Counter name="Rejected" value={stats?.rejected} />
        </dl>
      </div>
      <Chart
        label={`Events per second over the last five minutes: now ${shown}, at most ${rateText(peak)}`}
        height={132}
        from={(now?.at ?? 0) - CHART_SECONDS}
        to={now?.at ?? 0}
        columns={columns}
        series={RATE_SERIES}
        seconds
        value={(_series, index) => rateText(rates[index]?.perSecond ?? 0)}
      />
    </section>
  );
}

function Counter({ name, value }: { name: string; value: number | string | undefined }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd data-testid={`count-${name.toLowerCase()}`}>{value === undefined ? "\u2014" : groupDigits(String(value))}</dd>
    </div>
  );
}

function FreshnessPanel({ live }: { live: LiveStats }) {
  const now = useTick(250);
  const { stats } = live;
  const silence = now - live.receivedAt;
  const silent = stats !== null && silence > OVERDUE_MS;
  const age = stats?.freshness_ms == null ? null : stats.freshness_ms + (silent ? silence : 0);
  const tone = toneOf(age, silent);
  const words = silent ? `no report for ${ageText(silence)}` : WORDS[tone];
  return (
    <section class="panel freshness" aria-labelledby="freshness-title">
      <h2 id="freshness-title">Freshness</h2>
      <p class={`figure ${silent ? "stale" : ""}`} data-testid="freshness">
        {age === null ? "\u2014" : ageText(age)}
      </p>
      <p class="note">
        <span class={`dot ${tone}`} aria-hidden="true" /> {words}
        {stats?.as_of != null && (
          <>
            {" · as of "}
            <Instant at={stats.as_of} seconds brief />
          </>
        )}
      </p>
      {stats !== null && stats.partitions.length > 0 && <Partitions partitions={stats.partitions} at={stats.at} />}
    </section>
  );
}

type Tone = "idle" | "good" | "warn" | "bad";

const WORDS: Record<Tone, string> = {
  idle: "waiting for the first report",
  good: "up to date",
  warn: "catching up",
  bad: "behind",
};

function toneOf(age: number | null, silent: boolean): Tone {
  if (age === null) return "idle";
  if (age > BEHIND_MS) return "bad";
  return silent || age > FRESH_MS ? "warn" : "good";
}

function Partitions({ partitions, at }: { partitions: readonly PartitionStats[]; at: string }) {
  return (
    <div class="scroll partitions" tabIndex={0} role="region" aria-label="Partitions">
      <table>
        <thead>
          <tr>
            <th scope="col">Partition</th>
            <th scope="col">Lag</th>
            <th scope="col">Last offset</th>
            <th scope="col">Behind</th>
          </tr>
        </thead>
        <tbody>
          {partitions.map((one) => (
            <tr key={one.partition}>
              <th scope="row">{one.partition}</th>
              <td>{one.lag === null ? "\u2014" : groupDigits(String(one.lag))}</td>
              <td>{one.last_offset === null ? "\u2014" : groupDigits(String(one.last_offset))}</td>
              <td>{one.as_of === null ? "\u2014" : ageText(Date.parse(at) - Date.parse(one.as_of))}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
