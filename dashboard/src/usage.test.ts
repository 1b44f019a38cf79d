import assert from "node:assert/strict";
import { test } from "node:test";

import type { UsageItem } from "./api.ts";
import { axis, combine, drawnGroups, fromSnapshot, groups, onAxis, stacked, withChange, withHeartbeat } from "./usage.ts";

function item(minute: number, value: string | null, model?: string): UsageItem {
  const start = Date.parse("2026-11-22T10:00:00Z") + minute * 60_000;
  return {
    window_start: new Date(start).toISOString(),
    window_end: new Date(start + 60_000).toISOString(),
    value,
    ...(model === undefined ? {} : { dimensions: { model } }),
  };
}

test("a change replaces windows by their absolute value, so that applying it twice is harmless", () => {
  const first = fromSnapshot({ items: [item(0, "5"), item(1, "7")], total: "12", as_of: "a" });
  const change = { items: [item(1, "9"), item(2, "1")], total: "15", as_of: "b" };
  const once = withChange(first, change);
  assert.deepEqual(withChange(once, change), once);
  assert.deepEqual([...once.windows.values()].map((one) => one.value), ["5", "9", "1"]);
  assert.equal(once.total, "15");
});

test("the same instant written in another way is the same window", () => {
  const view = fromSnapshot({ items: [item(0, "5")], total: "5", as_of: null });
  const other = { ...item(0, "6"), window_start: "2026-11-22T11:00:00+01:00" };
  assert.equal(withChange(view, { items: [other], total: "6", as_of: null }).windows.size, 1);
});

test("a heartbeat moves only what is known until when", () => {
  const view = fromSnapshot({ items: [item(0, "5")], total: "5", as_of: "a" });
  assert.deepEqual(withHeartbeat(view, "b"), { ...view, asOf: "b" });
  assert.equal(withHeartbeat(null, "b"), null);
});

test("a group's figure is exact where windows combine, and none where they do not", () => {
  assert.equal(combine("sum", ["0.1", "0.2", "9007199254740993"]), "9007199254740993.3");
  assert.equal(combine("max", ["9", "10"]), "10");
  assert.equal(combine("min", ["9", "10", "-1"]), "-1");
  assert.equal(combine("none", ["1"]), null);
  assert.equal(combine("sum", []), null);
});

test("groups come largest first, and those past the last colour are summed exactly", () => {
  const items = [item(0, "1", "a"), item(0, "5", "b"), item(1, "2.5", "b"), item(0, "0.5", "c")];
  const view = fromSnapshot({ items, total: "9", as_of: null });
  const found = groups(view.windows, "model", "sum");
  assert.deepEqual(found.map((group) => [group.label, group.total]), [["b", "7.5"], ["a", "1"], ["c", "0.5"]]);
  const drawn = drawnGroups(found, 1, "sum");
  assert.deepEqual(drawn.map((group) => [group.label, group.total]), [["b", "7.5"], ["all others", "1.5"]]);
  assert.deepEqual(drawnGroups(found, 1, "max").length, 1);
});

test("a chart has a place for every window, also for those without usage", () => {
  const fromMs = Date.parse("2026-11-22T10:00:00Z");
  const starts = axis({ fromMs, toMs: fromMs + 180_000 }, "minute");
  assert.equal(starts.length, 3);
  assert.deepEqual(onAxis(starts, [item(0, "1"), item(2, "3")]), [1, null, 3]);
  assert.deepEqual(stacked([[1, null, 3], [null, null, 1]]), [[1, null, 3], [1, null, 4]]);
});
