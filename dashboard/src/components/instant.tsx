import { localText, utcClock, utcText } from "../time.ts";

interface Props {
  /** RFC 3339 or milliseconds; null is shown as a dash. */
  at: string | number | null;
  seconds?: boolean;
  /** without the date when that is today's */
  brief?: boolean;
}

/** An instant in UTC, with the reader's own time in the tooltip. */
export function Instant({ at, seconds = false, brief = false }: Props) {
  const ms = typeof at === "string" ? Date.parse(at) : at;
  if (ms === null || Number.isNaN(ms)) return <span>{"\u2014"}</span>;
  const iso = new Date(ms).toISOString();
  const today = brief && iso.slice(0, 10) === new Date().toISOString().slice(0, 10);
  return (
    <time dateTime={iso} title={localText(ms)}>
      {today ? `${utcClock(ms, seconds)} UTC` : utcText(ms, seconds)}
    </time>
  );
}
