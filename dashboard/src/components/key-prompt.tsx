import { useRef, useState } from "preact/hooks";

import { address, getJson, problemFrom } from "../api.ts";
import { Mark } from "./header.tsx";

interface Props {
  refusal: string | null;
  onKey: (key: string) => void;
}

/** The input has no name: even a form sent without script could not put the key into an address. */
export function KeyPrompt({ refusal, onKey }: Props) {
  const input = useRef<HTMLInputElement>(null);
  const [error, setError] = useState(refusal);
  const [asking, setAsking] = useState(false);

  async function submit(event: Event): Promise<void> {
    event.preventDefault();
    const key = input.current?.value.trim() ?? "";
    if (key === "") {
      setError("Paste an API key first.");
      input.current?.focus();
      return;
    }
    setAsking(true);
    try {
      await getJson(key, address("/v1/meters", { limit: "1" }));
      onKey(key);
    } catch (thrown) {
      const problem = problemFrom(thrown);
      setError(problem.status === 0 ? "The API does not answer. Check that it is running, then try again." : problem.message);
      setAsking(false);
      input.current?.select();
    }
  }

  return (
    <main class="gate">
      <form class="panel key-prompt" onSubmit={submit} noValidate>
        <h1 class="wordmark">
          <Mark /> Meterstream
        </h1>
        <p class="lead">Usage as it happens, exact to the last digit.</p>
        <label for="api-key">API key</label>
        <input
          id="api-key"
          ref={input}
          type="password"
          autocomplete="off"
          spellcheck={false}
          autofocus
          aria-invalid={error !== null}
          aria-describedby={error === null ? "key-hint" : "key-error key-hint"}
        />
        {error !== null && (
          <p id="key-error" class="error" role="alert">
            {error}
          </p>
        )}
        <button type="submit" class="primary" disabled={asking}>
          {asking ? "Checking…" : "Open dashboard"}
        </button>
        <p id="key-hint" class="hint">
          The key stays in this browser tab and is sent to this server only. No key yet? Run{" "}
          <code>meterstream key create</code>.
        </p>
      </form>
    </main>
  );
}
