/** The HTTP API as this page uses it. The key travels in a header only: never in an address, never in a log. */

export interface Meter {
  id: string;
  key: string;
  name?: string | null;
  aggregation: string;
  value_property?: string | null;
  dimensions?: readonly string[] | null;
}

export interface Customer {
  id: string;
  external_id?: string | null;
  name?: string | null;
}

export interface UsageItem {
  window_start: string;
  window_end: string;
  value: string | null;
  dimensions?: Readonly<Record<string, string | null>> | null;
}

export interface UsageBody {
  items: readonly UsageItem[];
  total: string | null;
  as_of: string | null;
}

export interface PartitionStats {
  partition: number;
  lag: number | null;
  last_offset: number | null;
  as_of: string | null;
}

export interface Stats {
  at: string;
  events_per_second: number | string;
  accepted: number | string;
  stored: number | string;
  duplicate: number | string;
  rejected: number | string;
  as_of: string | null;
  freshness_ms: number | null;
  partitions: readonly PartitionStats[];
}

export interface Page<T> {
  items: readonly T[];
  next_cursor: string | null;
}

/** Why a request gave no answer, as a sentence with the next step. `retry` says whether waiting can help. */
export class Problem extends Error {
  readonly status: number;
  readonly code: string;
  readonly retry: boolean;
  readonly retryAfterMs: number | null;

  constructor(status: number, code: string, message: string, retryAfterMs: number | null = null) {
    super(message);
    this.status = status;
    this.code = code;
    this.retry = status === 0 || status === 408 || status === 429 || status >= 500;
    this.retryAfterMs = retryAfterMs;
  }
}

export const AWAY = "The API does not answer. Check that it is running; this page tries again by itself.";

export function sentence(status: number, code: string, detail: string): string {
  if (status === 401) {
    return "This key was not accepted. Check that all of it was pasted, or create a new one with \u201cmeterstream key create\u201d.";
  }
  if (status === 403) {
    return `This key may not read that (${detail || code}). Use a key with the scope it names, or create one with \u201cmeterstream key create\u201d.`;
  }
  if (status === 429) return "Too many requests for this key. This page waits and tries again by itself.";
  if (status >= 500) return `The API cannot answer right now (${detail || code}). This page tries again by itself.`;
  return detail || `The API refused this request (${code}).`;
}

/** Seconds only: the API sends no dates there. */
export function retryAfterMs(header: string | null): number | null {
  return header !== null && /^\d+$/.test(header) ? Number(header) * 1000 : null;
}

export async function problemOf(response: Response): Promise<Problem> {
  const body: unknown = await response.json().catch(() => null);
  const fields = (typeof body === "object" && body !== null ? body : {}) as Record<string, unknown>;
  const code = typeof fields["code"] === "string" ? fields["code"] : `http_${response.status}`;
  const detail = [fields["detail"], fields["title"]].find((text) => typeof text === "string" && text !== "");
  const text = sentence(response.status, code, typeof detail === "string" ? detail : "");
  return new Problem(response.status, code, text, retryAfterMs(response.headers.get("Retry-After")));
}

export function problemFrom(error: unknown): Problem {
  return error instanceof Problem ? error : new Problem(0, "unreachable", AWAY);
}

/** The address of a resource; parameters without a value are left out. */
export function address(path: string, query: Readonly<Record<string, string | undefined>>): string {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) if (value !== undefined && value !== "") search.set(name, value);
  const text = search.toString();
  return text === "" ? path : `${path}?${text}`;
}

export async function getJson<T>(key: string, url: string, signal?: AbortSignal): Promise<T> {
  const response = await fetch(url, {
    headers: { Authorization: `Bearer ${key}`, Accept: "application/json" },
    cache: "no-store",
    credentials: "omit",
    ...(signal === undefined ? {} : { signal }),
  });
  if (!response.ok) throw await problemOf(response);
  return (await response.json()) as T;
}

const MOST_PAGES = 10;

/** Every meter, by following the cursor; ten pages are more than one can choose from. */
export async function listMeters(key: string, signal?: AbortSignal): Promise<readonly Meter[]> {
  const meters: Meter[] = [];
  let cursor: string | undefined;
  for (let page = 0; page < MOST_PAGES; page += 1) {
    const body: Page<Meter> = await getJson(key, address("/v1/meters", { limit: "100", cursor }), signal);
    meters.push(...body.items);
    if (!body.next_cursor) break;
    cursor = body.next_cursor;
  }
  return meters;
}

export async function searchCustomers(key: string, text: string, signal?: AbortSignal): Promise<readonly Customer[]> {
  const body: Page<Customer> = await getJson(key, address("/v1/customers", { limit: "50", search: text }), signal);
  return body.items.filter((customer) => matches(customer, text));
}

export function matches(customer: Customer, text: string): boolean {
  const wanted = text.trim().toLowerCase();
  return [customer.external_id, customer.name, customer.id].some((field) => field?.toLowerCase().includes(wanted));
}

/** What events call this customer. */
export function reference(customer: Customer): string {
  return customer.external_id || customer.id;
}
