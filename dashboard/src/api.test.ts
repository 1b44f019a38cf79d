import assert from "node:assert/strict";
import { test } from "node:test";

import { Problem, address, matches, problemFrom, retryAfterMs, sentence } from "./api.ts";

test("addresses leave out what was not chosen and escape what was", () => {
  assert.equal(address("/v1/usage", { meter: "tokens", group_by: "" }), "/v1/usage?meter=tokens");
  assert.equal(address("/v1/meters", {}), "/v1/meters");
  assert.equal(address("/v1/customers", { search: "a&b" }), "/v1/customers?search=a%26b");
});

test("a refusal ends a stream, an absence is waited for", () => {
  assert.equal(new Problem(401, "unauthorized", "").retry, false);
  assert.equal(new Problem(422, "invalid", "").retry, false);
  assert.equal(new Problem(429, "rate_limited", "").retry, true);
  assert.equal(new Problem(503, "unavailable", "").retry, true);
  assert.equal(problemFrom(new TypeError("Failed to fetch")).retry, true);
});

test("every sentence about a key names the next step", () => {
  assert.match(sentence(401, "unauthorized", "no"), /meterstream key create/);
  assert.match(sentence(403, "scope_missing", "usage:read"), /usage:read/);
  assert.equal(sentence(404, "not_found", "No meter is called tokens."), "No meter is called tokens.");
});

test("Retry-After is read in seconds", () => {
  assert.equal(retryAfterMs("3"), 3000);
  assert.equal(retryAfterMs(null), null);
});

test("customers are found by reference, name or id", () => {
  const customer = { id: "cus_1", external_id: "acme", name: "Acme & Sons" };
  assert.ok(matches(customer, "SONS"));
  assert.ok(matches(customer, "cus_"));
  assert.ok(!matches(customer, "other"));
});
