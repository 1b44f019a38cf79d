import assert from "node:assert/strict";
import { test } from "node:test";

import { FIRST_CHOICE, readChoice, spanOf, withRange, writeChoice } from "./choice.ts";

const NOW = Date.parse("2026-11-22T10:07:31Z");

test("a choice survives the address bar, and nonsense there is the first choice", () => {
  const choice = { ...FIRST_CHOICE, meter: "tokens", customer: "acme & sons", range: "7d" as const, window: "hour" as const };
  assert.deepEqual(readChoice(writeChoice(choice)), choice);
  assert.deepEqual(readChoice("#range=aeon&window=blink"), FIRST_CHOICE);
});

test("a longer range takes a window that fits it", () => {
  assert.equal(withRange(FIRST_CHOICE, { range: "12mo" }).window, "day");
  const custom = withRange(FIRST_CHOICE, { range: "custom", from: "2026-01-01T00:00", to: "2026-02-01T00:00" });
  assert.equal(custom.window, "hour");
});

test("a custom range without both dates, or with none between them, says what to do", () => {
  const custom = { ...FIRST_CHOICE, range: "custom" as const };
  assert.ok("sentence" in spanOf(custom, NOW));
  assert.ok("sentence" in spanOf({ ...custom, from: "2026-02-01T00:00", to: "2026-01-01T00:00" }, NOW));
  assert.ok("span" in spanOf({ ...custom, from: "2026-01-01T00:00", to: "2026-02-01T00:00" }, NOW));
});
