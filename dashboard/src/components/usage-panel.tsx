import { useEffect, useMemo, useState } from "preact/hooks";

import { type Meter, reference, searchCustomers } from "../api.ts";
import { type Choice, measured, readChoice, spanOf, writeChoice } from "../choice.ts";
import { groupDigits } from "../decimal.ts";
import { type LiveUsage, type UsageQuestion, useTick, useUsage } from "../live.ts";
import { type Span, ageText } from "../time.ts";
import { combination, groups } from "../usage.ts";
import { Controls } from "./controls.tsx";
import { Link } from "./header.tsx";
import { Instant } from "./instant.tsx";
import { UsageChart } from "./usage-chart.tsx";
import { GroupTable, WindowTable } from "./usage-tables.tsx";

interface Props {
  apiKey: string;
  meters: readonly Meter[];
}

export function UsagePanel({ apiKey, meters }: Props) {
  const [choice, setChoice] = useChoice(apiKey);
  const meter = meters.find((one) => one.key === choice.meter) ?? meters[0];
  const answer = useSpan(choice);
  const span = "span" in answer ? answer.span : null;
  const question: UsageQuestion | null =
    meter === undefined || choice.customer === "" || span === null
      ? null
      : { meter: meter.key, customer: choice.customer, window: choice.window, groupBy: choice.groupBy, span };
  const live = useUsage(apiKey, question);
  if (meter === undefined) return null;

  return (
    <section class="panel usage" aria-labelledby="usage-title">
      <h2 id="usage-title">Usage</h2>
      <Controls apiKey={apiKey} meters={meters} meter={meter} choice={choice} onChange={setChoice} />
      {"sentence" in answer && <p class="empty">{answer.sentence}</p>}
      {choice.customer === "" && <p class="empty">Choose a customer, or type the name that events carry.</p>}
      {question !== null && live.link.kind === "failed" && (
        <p class="error" role="alert">
          {live.link.problem.message}
        </p>
      )}
      {question !== null && live.link.kind !== "failed" && <Usage live={live} meter={meter} choice={choice} span={question.span} />}
    </section>
  );
}

interface UsageProps {
  live: LiveUsage;
  meter: Meter;
  choice: Choice;
  span: Span;
}

function Usage({ live, meter, choice, span }: UsageProps) {
  const { view } = live;
  const how = combination(meter.aggregation);
  const found = useMemo(() => (view === null ? [] : groups(view.windows, choice.groupBy, how)), [view?.windows, choice.groupBy, how]);
  const empty = view !== null && found.length === 0;
  return (
    <>
      <div class="total-row">
        <div>
          <output class="figure total" data-testid="total" data-value={view?.total ?? ""} aria-label="Total">
            {view === null ? "…" : view.total === null ? "\u2014" : groupDigits(view.total)}
          </output>
          <p class="note">
            {measured(meter)} for <b>{choice.customer}</b>{" "}
            {choice.range === "custom" ? (
              <>
                from <Instant at={span.fromMs} /> to <Instant at={span.toMs} />
              </>
            ) : (
              <>
                since <Instant at={span.fromMs} />
              </>
            )}
          </p>
        </div>
        <Currency live={live} />
      </div>
      <div class="stage">
        <UsageChart groups={found} how={how} choice={choice} span={span} />
        {empty && <p class="empty over">No usage in this range. Send an event or choose a longer range; this view moves by itself.</p>}
      </div>
      {choice.groupBy !== "" && found.length > 0 && <GroupTable groups={found} dimension={choice.groupBy} />}
      {!empty && view !== null && <WindowTable windows={view.windows} window={choice.window} dimension={choice.groupBy} />}
    </>
  );
}

/** How current the answer is. */
function Currency({ live }: { live: LiveUsage }) {
  const asOf = live.view?.asOf ?? null;
  return (
    <div class="currency">
      <Link link={live.link} brief />
      {asOf !== null && (
        <p class="note" data-testid="as-of" data-value={asOf}>
          as of <Instant at={asOf} seconds brief />
          <Overdue live={live} />
        </p>
      )}
    </div>
  );
}

const OVERDUE_MS = 5000;

function Overdue({ live }: { live: LiveUsage }) {
  const now = useTick(1000);
  const silence = now - live.receivedAt;
  return silence > OVERDUE_MS ? <> · nothing heard for {ageText(silence)}</> : null;
}

/** The choice lives in the fragment; the first customer is chosen where the reader has not. */
function useChoice(apiKey: string): [Choice, (choice: Choice) => void] {
  const [choice, setChoice] = useState(() => readChoice(location.hash));
  useEffect(() => {
    history.replaceState(null, "", writeChoice(choice));
  }, [choice]);
  useEffect(() => {
    const look = (): void => setChoice(readChoice(location.hash));
    addEventListener("hashchange", look);
    return () => removeEventListener("hashchange", look);
  }, []);
  useEffect(() => {
    if (choice.customer !== "") return;
    const leaving = new AbortController();
    searchCustomers(apiKey, "", leaving.signal).then(
      ([first]) => first && setChoice((now) => (now.customer === "" ? { ...now, customer: reference(first) } : now)),
      () => undefined, // without an answer the reader is asked to choose, below
    );
    return () => leaving.abort();
  }, [apiKey]);
  return [choice, setChoice];
}

/** The span asked for; a relative one is moved on when now has reached its end. */
function useSpan(choice: Choice): ReturnType<typeof spanOf> {
  const [turn, setTurn] = useState(0);
  const answer = useMemo(() => spanOf(choice, Date.now()), [choice.range, choice.window, choice.from, choice.to, turn]);
  const endMs = "span" in answer && choice.range !== "custom" ? answer.span.toMs : null;
  useEffect(() => {
    if (endMs === null) return;
    const timer = setTimeout(() => setTurn((before) => before + 1), Math.max(1000, endMs - Date.now()));
    return () => clearTimeout(timer);
  }, [endMs]);
  return answer;
}
