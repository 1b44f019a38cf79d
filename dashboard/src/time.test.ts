import assert from "node:assert/strict";
import { test } from "node:test";

import {
  RANGES,
  ageText,
  fittingWindow,
  localText,
  parseUtcField,
  relativeSpan,
  utcText,
  windowFits,
  windowText,
} from "./time.ts";

const AT = Date.parse("2026-11-22T10:07:31.250Z");

test("a relative range lies on window borders and holds the window that is filling", () => {
  for (const range of RANGES) {
    const span = relativeSpan(range, range.window, AT);
    const step = { minute: 60_000, hour: 3_600_000, day: 86_400_000 }[range.window];
    assert.equal(span.fromMs % step, 0);
    assert.equal(span.toMs % step, 0);
    assert.ok(span.fromMs <= AT - range.seconds * 1000);
    assert.ok(span.toMs > AT + step / 2);
  }
});

test("every range offers its own window, and no window that makes too many", () => {
  for (const range of RANGES) assert.ok(windowFits(range.window, range.seconds), range.id);
  assert.equal(windowFits("minute", 604_800), false);
  assert.equal(fittingWindow("minute", 604_800), "hour");
  assert.equal(fittingWindow("minute", 31_622_400), "day");
});

test("a date field is read as UTC", () => {
  assert.equal(parseUtcField("2026-11-22T10:00"), Date.parse("2026-11-22T10:00:00Z"));
  assert.equal(parseUtcField(""), null);
  assert.equal(parseUtcField("2026-13-01T00:00"), null);
});

test("instants are written in UTC, the reader's own time beside it", () => {
  assert.equal(utcText(AT), "22 Nov 2026, 10:07 UTC");
  assert.equal(utcText(AT, true), "22 Nov 2026, 10:07:31 UTC");
  assert.equal(windowText(AT, "day"), "22 Nov 2026");
  assert.match(localText(AT, "Asia/Tokyo"), /22 Nov 2026.*19:07:31 Asia\/Tokyo/);
});

test("ages are told in the unit a person would use", () => {
  assert.equal(ageText(420), "420 ms");
  assert.equal(ageText(3210), "3.2 s");
  assert.equal(ageText(59_990), "1 min 0 s");
  assert.equal(ageText(250_000), "4 min 10 s");
  assert.equal(ageText(7_500_000), "2 h 5 min");
  assert.equal(ageText(273_600_000), "3 d 4 h");
  assert.equal(ageText(-5), "0 ms");
});
