/** Server-sent events over fetch: EventSource cannot send the Authorization header. */

import { type Problem, problemFrom, problemOf } from "./api.ts";

export interface ServerEvent {
  event: string;
  data: string;
  id: string | null;
}

/** An incremental parser of the event-stream format: feed it text in any pieces, take whole events out. */
export class EventParser {
  #rest = "";
  #event = "";
  #data: string[] = [];
  #id: string | null = null;

  feed(text: string): ServerEvent[] {
    const found: ServerEvent[] = [];
    const lines = (this.#rest + text).split(/\r\n|\n|\r(?!$)/);
    this.#rest = lines.pop() ?? "";
    for (const line of lines) {
      if (line === "") {
        const event = this.#take();
        if (event !== null) found.push(event);
      } else this.#field(line);
    }
    return found;
  }

  #field(line: string): void {
    const colon = line.indexOf(":");
    if (colon === 0) return;
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (name === "event") this.#event = value;
    else if (name === "data") this.#data.push(value);
    else if (name === "id" && !value.includes("\0")) this.#id = value;
  }

  #take(): ServerEvent | null {
    const event = this.#data.length === 0 ? null : { event: this.#event || "message", data: this.#data.join("\n"), id: this.#id };
    this.#event = "";
    this.#data = [];
    return event;
  }
}

export type LinkState =
  | { kind: "connecting" }
  | { kind: "live" }
  | { kind: "waiting"; untilMs: number; problem: Problem }
  | { kind: "failed"; problem: Problem };

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 15_000;

/** Exponential, with half of it random so that many pages do not come back at once. */
export function backoffMs(attempt: number, random: number): number {
  const full = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** attempt);
  return Math.round(full / 2 + (full / 2) * random);
}

/** The server speaks about once a second; this much silence is a dead connection. */
const SILENCE_MS = 10_000;

export interface StreamRequest {
  key: string;
  url: string;
  onEvent: (event: ServerEvent) => void;
  onState: (state: LinkState) => void;
}

/** Reads a stream until closed, coming back with Last-Event-ID after every break. A refusal ends it. Returns close(). */
export function openStream(request: StreamRequest): () => void {
  const closing = new AbortController();
  void follow(request, closing.signal);
  return () => closing.abort();
}

async function follow(request: StreamRequest, closed: AbortSignal): Promise<void> {
  let lastId: string | null = null;
  let attempt = 0;
  request.onState({ kind: "connecting" });
  while (!closed.aborted) {
    let problem: Problem;
    try {
      await readOnce(request, closed, lastId, (event) => {
        lastId = event.id ?? lastId;
        attempt = 0;
        request.onEvent(event);
      });
      problem = problemFrom(null);
    } catch (error) {
      problem = problemFrom(error);
    }
    if (closed.aborted) return;
    if (!problem.retry) {
      request.onState({ kind: "failed", problem });
      return;
    }
    const wait = Math.max(backoffMs(attempt, Math.random()), problem.retryAfterMs ?? 0);
    attempt += 1;
    request.onState({ kind: "waiting", untilMs: Date.now() + wait, problem });
    await pause(wait, closed);
  }
}

async function readOnce(
  request: StreamRequest,
  closed: AbortSignal,
  lastId: string | null,
  onEvent: (event: ServerEvent) => void,
): Promise<void> {
  const attempt = new AbortController();
  const giveUp = (): void => attempt.abort();
  closed.addEventListener("abort", giveUp, { once: true });
  let watchdog = setTimeout(giveUp, SILENCE_MS);
  try {
    const response = await fetch(request.url, {
      headers: {
        Authorization: `Bearer ${request.key}`,
        Accept: "text/event-stream",
        ...(lastId === null ? {} : { "Last-Event-ID": lastId }),
      },
      cache: "no-store",
      credentials: "omit",
      signal: attempt.signal,
    });
    if (!response.ok || response.body === null) throw await problemOf(response);
    const parser = new EventParser();
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { value, done } = await reader.read();
      if (done || closed.aborted) return;
      clearTimeout(watchdog);
      watchdog = setTimeout(giveUp, SILENCE_MS);
      for (const event of parser.feed(value)) {
        request.onState({ kind: "live" });
        onEvent(event);
      }
    }
  } finally {
    clearTimeout(watchdog);
    closed.removeEventListener("abort", giveUp);
  }
}

function pause(ms: number, closed: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(done, ms);
    function done(): void {
      clearTimeout(timer);
      window.removeEventListener("online", done);
      window.removeEventListener("meterstream:retry", done);
      closed.removeEventListener("abort", done);
      resolve();
    }
    // The network came back, or the reader pressed "Try now".
    window.addEventListener("online", done);
    window.addEventListener("meterstream:retry", done);
    closed.addEventListener("abort", done);
  });
}
