import assert from "node:assert/strict";
import { test } from "node:test";

import { EventParser, type ServerEvent, backoffMs } from "./sse.ts";

const TEXT = ': hello\nid: 7\nevent: change\ndata: {"a":\ndata: 1}\n\nevent: heartbeat\r\ndata: {}\r\n\r\ndata:plain\n\n';
const EVENTS: ServerEvent[] = [
  { event: "change", data: '{"a":\n1}', id: "7" },
  { event: "heartbeat", data: "{}", id: "7" },
  { event: "message", data: "plain", id: "7" },
];

test("a stream reads the same however it was cut into pieces", () => {
  for (let size = 1; size <= TEXT.length; size += 1) {
    const parser = new EventParser();
    const found: ServerEvent[] = [];
    for (let at = 0; at < TEXT.length; at += size) found.push(...parser.feed(TEXT.slice(at, at + size)));
    assert.deepEqual(found, EVENTS, `pieces of ${size}`);
  }
});

test("an event without its closing blank line is not taken", () => {
  const parser = new EventParser();
  assert.deepEqual(parser.feed("event: change\ndata: {}\n"), []);
  assert.deepEqual(parser.feed("\n"), [{ event: "change", data: "{}", id: null }]);
});

test("waits grow, stay random by half, and end at fifteen seconds", () => {
  assert.equal(backoffMs(0, 0), 250);
  assert.equal(backoffMs(0, 1), 500);
  assert.equal(backoffMs(3, 1), 4000);
  assert.equal(backoffMs(40, 1), 15_000);
  assert.equal(backoffMs(40, 0), 7500);
});
