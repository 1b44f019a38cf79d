import { localText, utcText } from "../time.ts";

interface Props {
  /** RFC 3339 or milliseconds; null is shown as a dash. */
  at: string | number | null;
  seconds?: boolean;
}

/** An instant in UTC, with the reader's own time in the tooltip. */
export function Instant({ at, seconds = false }: Props) {
  const ms = typeof at === "string" ? Date.parse(at) : at;
  if (ms === null || Number.isNaN(ms)) return <span>{"\u2014"}</span>;
  return (
    <time dateTime={new Date(ms).toISOString()} title={localText(ms)}>
      {utcText(ms, seconds)}
    </time>
  );
}
