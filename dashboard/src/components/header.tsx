import type { LinkState } from "../sse.ts";
import { useTick } from "../live.ts";

export function Mark() {
  return (
    <svg class="mark" viewBox="0 0 32 32" aria-hidden="true">
      <rect width="32" height="32" rx="8" class="mark-ground" />
      <g class="mark-bars">
        <rect x="7" y="17" width="4" height="8" rx="1.5" />
        <rect x="14" y="12" width="4" height="13" rx="1.5" />
        <rect x="21" y="7" width="4" height="18" rx="1.5" />
      </g>
    </svg>
  );
}

interface Props {
  link: LinkState;
  onForget: () => void;
}

export function Header({ link, onForget }: Props) {
  return (
    <header class="bar">
      <h1 class="wordmark">
        <Mark /> Meterstream
      </h1>
      <Link link={link} />
      <button type="button" class="plain" onClick={onForget}>
        Forget key
      </button>
    </header>
  );
}

/** Whether figures are moving, in words; when they are not, why, and when the page tries again. */
export function Link({ link, brief = false }: { link: LinkState; brief?: boolean }) {
  useTick(link.kind === "waiting" ? 500 : 60_000);
  if (link.kind === "waiting") {
    const seconds = Math.max(0, Math.ceil((link.untilMs - Date.now()) / 1000));
    return (
      <span class="link" data-link="waiting">
        <span class="dot warn" aria-hidden="true" />
        <span role="status" title={link.problem.message}>
          {link.problem.status === 0 ? "API away" : "API busy"}
        </span>
        <span class="link-detail">{seconds > 0 ? `next try in ${seconds} s` : "trying…"}</span>
        {!brief && (
          <button type="button" class="plain" onClick={() => window.dispatchEvent(new Event("meterstream:retry"))}>
            Try now
          </button>
        )}
      </span>
    );
  }
  const [tone, text] = { connecting: ["idle", "Connecting…"], live: ["good", "Live"], failed: ["bad", "Stopped"] }[link.kind];
  return (
    <span class="link" data-link={link.kind} title={link.kind === "failed" ? link.problem.message : undefined}>
      <span class={`dot ${tone}`} aria-hidden="true" />
      <span role="status">{text}</span>
    </span>
  );
}
