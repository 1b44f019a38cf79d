import { useState } from "preact/hooks";

function command(origin: string): string {
  return [
    `curl ${origin}/v1/meters \\`,
    `  -H "Authorization: Bearer $METERSTREAM_KEY" \\`,
    `  -H "Content-Type: application/json" \\`,
    `  -d '{"key": "tokens", "event_types": ["api.request"],`,
    `       "aggregation": "sum", "value_property": "tokens", "dimensions": ["model"]}'`,
  ].join("\n");
}

/** No meters yet: the command that creates one. The page goes on by itself once there is one. */
export function FirstMeter() {
  const [copied, setCopied] = useState(false);
  const text = command(location.origin);

  async function copy(): Promise<void> {
    await navigator.clipboard.writeText(text);
    setCopied(true);
  }

  return (
    <section class="panel first-meter" data-testid="no-meters">
      <h2>No meters yet</h2>
      <p>A meter says which events count, and by what. Create the first one; this page goes on as soon as it exists.</p>
      <pre tabIndex={0}>
        <code>{text}</code>
      </pre>
      {window.isSecureContext && (
        <button type="button" onClick={() => void copy()}>
          {copied ? "Copied" : "Copy command"}
        </button>
      )}
    </section>
  );
}
