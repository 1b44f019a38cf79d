import { useCallback, useEffect, useState } from "preact/hooks";

import { type Meter, type Problem, listMeters, problemFrom } from "./api.ts";
import { Away } from "./components/away.tsx";
import { FirstMeter } from "./components/first-meter.tsx";
import { Header } from "./components/header.tsx";
import { KeyPrompt } from "./components/key-prompt.tsx";
import { LivePanel } from "./components/live-panel.tsx";
import { UsagePanel } from "./components/usage-panel.tsx";
import { useStats } from "./live.ts";
import { backoffMs } from "./sse.ts";

/** Session storage: gone with the tab, sent nowhere by the browser itself. */
const KEY = "meterstream.key";

export function App() {
  const [key, setKey] = useState(() => sessionStorage.getItem(KEY));
  const [refusal, setRefusal] = useState<string | null>(null);

  const accept = useCallback((accepted: string) => {
    sessionStorage.setItem(KEY, accepted);
    setRefusal(null);
    setKey(accepted);
  }, []);
  const forget = useCallback((reason: string | null) => {
    sessionStorage.removeItem(KEY);
    setRefusal(reason);
    setKey(null);
  }, []);

  if (key === null) return <KeyPrompt refusal={refusal} onKey={accept} />;
  return <Dashboard key={key} apiKey={key} onForget={forget} />;
}

interface DashboardProps {
  apiKey: string;
  onForget: (reason: string | null) => void;
}

function Dashboard({ apiKey, onForget }: DashboardProps) {
  const { meters, problem } = useMeters(apiKey);
  const live = useStats(apiKey);
  const refused = [problem, live.link.kind === "failed" ? live.link.problem : null].find((p) => p?.status === 401);

  useEffect(() => {
    if (refused) onForget(refused.message);
  }, [refused, onForget]);

  return (
    <>
      <Header link={live.link} onForget={() => onForget(null)} />
      <main>
        <LivePanel live={live} />
        {problem !== null && meters === null && <Away problem={problem} />}
        {meters !== null && meters.length === 0 && <FirstMeter />}
        {meters !== null && meters.length > 0 && <UsagePanel apiKey={apiKey} meters={meters} />}
        {meters === null && problem === null && <section class="panel quiet">Loading meters…</section>}
      </main>
    </>
  );
}

const LOOK_AGAIN_MS = 3000;

/** The meters; asked again while there are none, and with backoff while the API is away. */
function useMeters(apiKey: string): { meters: readonly Meter[] | null; problem: Problem | null } {
  const [meters, setMeters] = useState<readonly Meter[] | null>(null);
  const [problem, setProblem] = useState<Problem | null>(null);

  useEffect(() => {
    const leaving = new AbortController();
    let timer: ReturnType<typeof setTimeout>;
    let attempt = 0;
    async function look(): Promise<void> {
      try {
        const found = await listMeters(apiKey, leaving.signal);
        setMeters(found);
        setProblem(null);
        attempt = 0;
        if (found.length === 0) timer = setTimeout(look, LOOK_AGAIN_MS);
      } catch (error) {
        if (leaving.signal.aborted) return;
        const met = problemFrom(error);
        setProblem(met);
        if (met.retry) timer = setTimeout(look, backoffMs(attempt, Math.random()));
        attempt += 1;
      }
    }
    void look();
    return () => {
      leaving.abort();
      clearTimeout(timer);
    };
  }, [apiKey]);

  return { meters, problem };
}
