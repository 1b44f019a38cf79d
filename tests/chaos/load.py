"""Clients that send events without rest, and the record of every answer they got."""

import asyncio
import gzip
import itertools
import random
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import aiohttp
import msgspec

from runtime.clock import Clock
from tests.chaos.contracts import COHORTS, HOUR, HUGE, STANDING, alias_of, cohort, hours_begin

SOURCES = ("gateway-1", "gateway-2")
OUTSTANDING_MAX = 48
ANSWER_WITHIN_S = 12.0
DUPLICATES = 0.3
OTHER_BODY = 0.15
INVALID = 0.03
AGAIN = 0.4  # of the requests without an answer
AGAIN_AFTER_S = 3.0
SPAN = timedelta(hours=26)
MODELS = ("small", "large", "huge")

Key = tuple[str, str]  # source, id
Body = dict[str, Any]


class Known(msgspec.Struct):
    """One identity: the body that must stand, and what was answered to its copies (also those with other bodies)."""

    first: Body
    accepted: int = 0
    unanswered: int = 0
    forwarded: bool = False  # a copy may have come by another partition, perhaps more than once
    accepted_at: datetime | None = None


class Counts(msgspec.Struct):
    """Of events, by what was answered; `sent` is all of them."""

    sent: int = 0
    accepted: int = 0
    refused: int = 0
    unanswered: int = 0
    requests: int = 0


class Answers:
    """What is known of every event that was sent. Invalid ones are `invalid`, by (source, id)."""

    def __init__(self) -> None:
        self.known: dict[Key, Known] = {}
        self.invalid: set[Key] = set()
        self.counts = Counts()
        self.wrong: list[str] = []
        self.last_unanswered_at = 0.0

    def took(self, bodies: list[Body], refused: dict[int, str], at: datetime) -> None:
        """A 202, or a 422 of every event: `refused` by index."""
        for index, body in enumerate(bodies):
            key = (body["source"], body.get("id", ""))
            known = self.known.get(key)
            if index in refused:
                self.counts.refused += 1
                if known is not None:
                    self.wrong.append(f"{key} was refused as {refused[index]}, but is sound")
            elif known is None:
                self.wrong.append(f"{key} was accepted, but is not sound")
            else:
                self.counts.accepted += 1
                known.accepted += 1
                known.accepted_at = known.accepted_at or at

    def refused(self, bodies: list[Body], status: int) -> None:
        """A whole request answered 4xx: none of it counts."""
        self.counts.refused += len(bodies)
        if status != 429:
            self.wrong.append(f"a request of {len(bodies)} events was answered {status}")

    def foreign(self, bodies: list[Body], *, acknowledged: bool) -> None:
        """A record of another producer with these sound events: what the log acknowledged is as good as a 202."""
        for body in bodies:
            known = self.known[body["source"], body["id"]]
            known.forwarded = True
            known.accepted += acknowledged
            known.unanswered += not acknowledged
        self.counts.sent += len(bodies)
        if acknowledged:
            self.counts.accepted += len(bodies)
        else:
            self.counts.unanswered += len(bodies)
            self.last_unanswered_at = time.monotonic()

    def unanswered(self, bodies: list[Body]) -> None:
        self.counts.unanswered += len(bodies)
        self.last_unanswered_at = time.monotonic()
        for body in bodies:
            known = self.known.get((body["source"], body.get("id", "")))
            if known is not None:
                known.unanswered += 1


class Load:
    """About `rate` events a second for `seconds`: singles and bulks, copies, copies with other bodies, invalid ones.

    An event's first body is known before its first sending; another body is sent only after a copy with the first one
    was answered 202, so that which body must stand is known from the answers.
    """

    def __init__(self, session: aiohttp.ClientSession, *, seed: int, rate: float, seconds: float, clock: Clock) -> None:
        self.answers = Answers()
        self._session = session
        self._chance = random.Random(f"load {seed}")
        self._rate = rate
        self._seconds = seconds
        self._clock = clock
        self._began_at = clock.now()
        self._numbers = itertools.count()
        self._keys: list[Key] = []
        self._again: list[tuple[float, list[Body]]] = []
        self._sending: set[asyncio.Task[None]] = set()
        self._began = time.monotonic()

    async def run(self) -> None:
        """Returns when every request has its answer, or will have none."""
        self._began = time.monotonic()
        next_at = self._began
        while (now := time.monotonic()) < self._began + self._seconds:
            if next_at > now or len(self._sending) >= OUTSTANDING_MAX:
                await asyncio.sleep(0.01)
                next_at = max(next_at, now - 1.0)  # what could not be sent is not caught up with
                continue
            bodies = self._due_again(now) or self._bodies()
            task = asyncio.create_task(self._send(bodies))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)
            next_at += len(bodies) / self._rate
        while self._sending:
            await asyncio.gather(*self._sending)

    @property
    def cohort_number(self) -> int:
        """The cohort whose events are sent now; those before are complete, but for late events and copies."""
        return min(COHORTS, int((time.monotonic() - self._began) / self._seconds * (COHORTS + 1)))

    def seconds_until_complete(self, number: int) -> float:
        """How long this cohort's events are still sent."""
        return max(0.0, self._began + self._seconds * (number + 1) / (COHORTS + 1) - time.monotonic())

    # --- what is sent ---

    def _due_again(self, now: float) -> list[Body]:
        if self._again and self._again[0][0] <= now:
            return self._again.pop(0)[1]
        return []

    def _bodies(self) -> list[Body]:
        chance = self._chance
        kind = chance.random()
        size = 1 if kind < 0.4 else chance.randint(2, 50) if kind < 0.8 else chance.randint(100, 400)
        return list(itertools.islice(self._events(), size))

    def _events(self) -> Iterator[Body]:
        chance = self._chance
        while True:
            kind = chance.random()
            if kind < INVALID:
                yield self._invalid()
            elif kind < INVALID + DUPLICATES and self._keys:
                yield self._copy()
            else:
                yield self.new_body()

    def known_body(self) -> Body:
        """The first body of an event sent before (or a new one): a copy that does not say anything else."""
        if not self._keys:
            return self.new_body()
        return self.answers.known[self._chance.choice(self._keys)].first

    def new_body(self) -> Body:
        """A sound event that was never sent, and will be known."""
        body = self._sound(next(self._numbers))
        key = (body["source"], body["id"])
        self.answers.known[key] = Known(first=body)
        self._keys.append(key)
        return body

    def _copy(self) -> Body:
        """Most often of what was sent lately."""
        chance, keys = self._chance, self._keys
        recent = max(0, len(keys) - 3_000)
        key = keys[chance.randrange(recent if chance.random() < 0.8 else 0, len(keys))]
        known = self.answers.known[key]
        if known.accepted_at and chance.random() < OTHER_BODY:
            return {**self._sound(0), "source": key[0], "id": key[1]}
        return known.first

    def _sound(self, number: int) -> Body:
        chance = self._chance
        customer, at = self._customer_and_time()
        properties: Body = {"model": chance.choice(MODELS), "user": f"u{chance.randrange(300)}"}
        gauge = chance.random() < 0.1
        if gauge:
            properties["level"] = chance.randrange(1000)
        value = chance.random()
        if value < 0.95:
            properties["tokens"] = f"{chance.randrange(1, 100_000)}.{chance.randrange(1000):03d}"
        elif value < 0.98:
            properties["tokens"] = "many"  # an issue of the meters that need a number
        return {
            "id": f"e{number // 2}",
            "source": SOURCES[number % 2],
            "type": "gauge" if gauge else "call",
            "customer": customer,
            "time": at.isoformat(timespec="milliseconds"),
            "properties": properties,
        }

    def _customer_and_time(self) -> tuple[str, datetime]:
        chance = self._chance
        kind = chance.random()
        billed_from = hours_begin(self._began_at)
        number = self.cohort_number
        if kind < 0.12 and number < COHORTS:
            return chance.choice(cohort(number)), self._between(billed_from, self._began_at)
        if kind < 0.17 and number:
            # Late: most of these hours are billed by now. And what is of the present hour.
            early = chance.random() < 0.5
            customer = chance.choice(cohort(chance.randrange(number)))
            return customer, self._between(billed_from, billed_from + 4 * HOUR) if early else self._clock.now()
        customer = HUGE if kind < 0.55 else chance.choice(STANDING[1:])
        reference = alias_of(customer) if chance.random() < 0.1 else customer
        at = self._clock.now() if chance.random() < 0.5 else self._between(self._began_at - SPAN, self._began_at)
        return reference, at

    def _between(self, start: datetime, end: datetime) -> datetime:
        return start + (end - start) * self._chance.random()

    def _invalid(self) -> Body:
        body = self._sound(next(self._numbers))
        body["id"] = f"bad-{body['id']}"
        match self._chance.randrange(4):
            case 0:
                body["time"] = (self._began_at - timedelta(days=60)).isoformat()
            case 1:
                body["custmer"] = body["customer"]
            case 2:
                body["customer"] = ""
            case _:
                body["time"] = "yesterday"
        self.answers.invalid.add((body["source"], body["id"]))
        return body

    # --- how it is sent, and what is answered ---

    async def _send(self, bodies: list[Body]) -> None:
        answers = self.answers
        answers.counts.sent += len(bodies)
        answers.counts.requests += 1
        data, headers = self._encoded(bodies)
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                async with self._session.post("/v1/events", data=data, headers=headers) as answer:
                    text = await answer.read()
        except (aiohttp.ClientError, TimeoutError, OSError):
            self._unanswered(bodies)
            return
        if answer.status == 202 or (answer.status == 422 and b'"accepted"' in text):
            told = msgspec.json.decode(text)
            refused = {one["index"]: one["code"] for one in told["rejected"]}
            answers.took(bodies, refused, self._clock.now())
        elif 400 <= answer.status < 500:
            answers.refused(bodies, answer.status)
        else:
            self._unanswered(bodies)

    def _unanswered(self, bodies: list[Body]) -> None:
        self.answers.unanswered(bodies)
        if self._chance.random() < AGAIN:
            self._again.append((time.monotonic() + AGAIN_AFTER_S, bodies))

    def _encoded(self, bodies: list[Body]) -> tuple[bytes, dict[str, str]]:
        headers = {"Content-Type": "application/json"}
        kind = self._chance.random()
        if kind < 0.15:
            headers["Content-Type"] = "application/x-ndjson"
            data = b"\n".join(msgspec.json.encode(body) for body in bodies)
        elif len(bodies) == 1:
            data = msgspec.json.encode(bodies[0])
        else:
            data = msgspec.json.encode(bodies)
        if kind > 0.9:
            headers["Content-Encoding"] = "gzip"
            data = gzip.compress(data, 1)
        return data, headers
