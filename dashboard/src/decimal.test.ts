import assert from "node:assert/strict";
import { test } from "node:test";

import { addDecimals, compareDecimals, forDrawing, groupDigits } from "./decimal.ts";

test("digits are grouped without changing one of them", () => {
  assert.equal(groupDigits("0"), "0");
  assert.equal(groupDigits("999"), "999");
  assert.equal(groupDigits("1000"), "1,000");
  assert.equal(groupDigits("1234567.5000"), "1,234,567.5000");
  assert.equal(groupDigits("-1234.5"), "\u22121,234.5");
  assert.equal(groupDigits("9007199254740993.000000000001"), "9,007,199,254,740,993.000000000001");
  assert.equal(groupDigits("1".repeat(40)), "1,111,111,111,111,111,111,111,111,111,111,111,111,111");
});

test("text that is no plain decimal is shown as it came", () => {
  assert.equal(groupDigits("n/a"), "n/a");
  assert.equal(groupDigits("1e9"), "1e9");
});

test("sums are exact beyond what a double holds", () => {
  assert.equal(addDecimals("0.1", "0.2"), "0.3");
  assert.equal(addDecimals("9007199254740993", "0.000000000001"), "9007199254740993.000000000001");
  assert.equal(addDecimals("1.50", "-1.5"), "0");
  assert.equal(addDecimals("-0.75", "0.5"), "-0.25");
});

test("decimals are compared by value, not by text", () => {
  assert.equal(compareDecimals("10", "9.99"), 1);
  assert.equal(compareDecimals("1.0", "1"), 0);
  assert.equal(compareDecimals("-2", "-1.5"), -1);
});

test("nothing is drawn for a missing value", () => {
  assert.equal(forDrawing(null), null);
  assert.equal(forDrawing("12.5"), 12.5);
});
