"""Fix and replay: rejected events, mended, judged as new ones are, and sent once however often it is asked.

What makes it safe to repeat, and by two at once: the first replay of a position fixes its identity for ever
(`rejected_replays`), so all replays of it are copies of one event, which the duplicate filter counts once. The order is
claim, log (acks=all), record; a crash in between leaves a claim that the next attempt finishes under the same identity.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import msgspec
from msgspec import Raw

from api.auth import Principal
from api.coalesce import Origin, RecordWriter
from api.deps import ApiDeps
from api.ingest_parse import Judge, Verdicts, judge_events
from api.usage_question import clickhouse_of
from domain.block_decoding import FORMAT_UNKNOWN, RECORD_TOO_LARGE
from domain.errors import Invalid
from domain.events import split_events
from domain.identity import event_identity
from domain.replay import Fix, check_age, mended_event
from runtime import metrics
from schemas.event_records import EventPosition, Replay
from schemas.replays import ReplayedEvent
from schemas.scope import Scope
from stores.clickhouse.events import EventStore
from stores.clickhouse.rejected import Original
from stores.postgres.engine import autocommit, transaction
from stores.postgres.replays import Claim, claim_replays, find_replays, finish_replays

# Records that were refused as a whole: the events in them are replayed one by one.
_WHOLE = frozenset({RECORD_TOO_LARGE, FORMAT_UNKNOWN})
_IDENTITIES_A_QUERY = 1_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """One event that is to be sent again: judged, and with the partition that it belongs to."""

    position: EventPosition
    received_at: datetime
    source: str
    id: str
    partition: int
    event: bytes

    def replayed(self, *, already: bool = False) -> ReplayedEvent:
        return ReplayedEvent(
            position=self.position,
            status="accepted",
            source=self.source,
            id=self.id,
            received_at=self.received_at,
            event=Raw(self.event),
            already_replayed=already,
        )

    def refused(self, invalid: Invalid) -> ReplayedEvent:
        return msgspec.structs.replace(self.replayed(), status="rejected", code=invalid.code, message=invalid.message)


class Replayer:
    """One request of one caller: its tenant and environment own what is sent."""

    def __init__(self, deps: ApiDeps, principal: Principal) -> None:
        self._deps = deps
        self._principal = principal
        self._scope = principal.scope
        self._catalog = deps.limits.current()
        self._begun: list[EventPosition] = []

    async def replay(self, originals: Sequence[Original], fix: Fix, *, dry_run: bool) -> list[ReplayedEvent]:
        """What became of each, in the order given. Raises Unavailable where that of a send is unknown: repeat it."""
        verdicts: list[ReplayedEvent | Candidate] = []
        for original in originals:
            verdicts += self._judged(original, fix)
        candidates = [one for one in verdicts if isinstance(one, Candidate)]
        settled = await self._settled(candidates)
        if not dry_run:
            settled |= await self._send([one for one in candidates if one.position not in settled])
        return [settled.get(one.position) or one.replayed() if isinstance(one, Candidate) else one for one in verdicts]

    def _judged(self, original: Original, fix: Fix) -> Iterator[ReplayedEvent | Candidate]:
        try:
            parts = _parts(original, fix, self._deps.settings.api.events_max)
            limits = self._catalog.limits_of(self._scope.tenant, self._scope.environment)
            check_age(original.received_at, self._deps.clock.now(), limits.max_event_age_s)
        except Invalid as invalid:
            yield _refused(original.position, invalid)
            return
        for position, sent in parts:
            try:
                mended = mended_event(sent, position, fix)
            except Invalid as invalid:
                yield _refused(position, invalid)
                continue
            yield self._verdict(position, original.received_at, mended)

    def _verdict(self, position: EventPosition, received_at: datetime, mended: bytes) -> ReplayedEvent | Candidate:
        """By the function that judges new events, at the receipt of the first time (protocol 21)."""
        tenant, environment = self._scope.tenant, self._scope.environment
        judge = Judge(
            tenant=tenant,
            environment=environment,
            received_at_ms=_ms(received_at),
            limits=self._catalog.limits_of(tenant, environment),
            partitions=self._deps.settings.kafka.raw_partitions,
            knows_customer=lambda reference: self._catalog.knows_customer(tenant, environment, reference),
        )
        verdicts = Verdicts()
        judge_events([mended], "json", judge, verdicts, 0)
        if verdicts.last is None:
            [rejected] = verdicts.rejected
            return _refused(position, Invalid(rejected.code, rejected.message), mended)
        [(partition, [event])] = verdicts.groups.items()
        return Candidate(
            position=position,
            received_at=received_at,
            source=verdicts.last.source,
            id=verdicts.last.id,
            partition=partition,
            event=event,
        )

    async def _settled(self, candidates: Sequence[Candidate]) -> dict[EventPosition, ReplayedEvent]:
        """Those that are not to be sent: replayed before, by whomever, or stored at another position."""
        async with autocommit(self._deps.engine) as conn:
            known = await find_replays(conn, [one.position for one in candidates])
        settled = {one.position: found for one in candidates if (found := self._by_claim(one, known)) is not None}
        stored = await self._stored([one for one in candidates if one.position not in settled])
        for one, at in stored:
            # Begun and stored: the attempt that died before it could say so has sent it.
            begun = one.position in known
            if begun:
                self._begun.append(one.position)
            place = f"partition {at.partition}, offset {at.offset}, index {at.index}"
            stands = Invalid("already_stored", f"an event with this source and id is stored already: {place}")
            settled[one.position] = one.replayed(already=True) if begun else one.refused(stands)
        return settled

    def _by_claim(self, one: Candidate, known: Mapping[EventPosition, Replay]) -> ReplayedEvent | None:
        claim = known.get(one.position)
        if claim is None:
            return None
        if (claim.tenant, claim.environment, claim.source, claim.id) == (*_pair(self._scope), one.source, one.id):
            return one.replayed(already=True) if claim.at is not None else None
        as_what = (
            f"source {claim.source!r}, id {claim.id!r}" if _pair(claim) == _pair(self._scope) else "another owner's"
        )
        return one.refused(Invalid("replayed_otherwise", f"it was replayed before, as {as_what}"))

    async def _stored(self, candidates: Sequence[Candidate]) -> list[tuple[Candidate, EventPosition]]:
        # The filter remembers no longer than its window, and a replay may be of a copy that came before it: ask `events`.
        store = EventStore(clickhouse_of(self._deps))
        found: list[tuple[Candidate, EventPosition]] = []
        for begin in range(0, len(candidates), _IDENTITIES_A_QUERY):
            some = [
                (event_identity(*_pair(self._scope), one.source, one.id), one)
                for one in candidates[begin : begin + _IDENTITIES_A_QUERY]
            ]
            places = await store.positions_of(self._scope, list({identity for identity, _ in some}))
            found += [(one, places[identity]) for identity, one in some if identity in places]
        return found

    async def _send(self, candidates: Sequence[Candidate]) -> dict[EventPosition, ReplayedEvent]:
        """Claim, send, record. What another claim came before for is settled by that."""
        claims = [Claim(position=one.position, source=one.source, id=one.id) for one in candidates]
        async with transaction(self._deps.engine) as conn:
            known = await claim_replays(conn, self._scope, self._principal.key_id, claims)
        settled = {one.position: found for one in candidates if (found := self._by_claim(one, known)) is not None}
        mine = [one for one in candidates if one.position not in settled]
        await self._write(mine)
        async with transaction(self._deps.engine) as conn:
            await finish_replays(conn, [*self._begun, *(one.position for one in mine)], self._deps.clock.now())
        metrics.ingest_events_replayed.inc(len(mine))
        return settled

    async def _write(self, candidates: Sequence[Candidate]) -> None:
        """All of them, in records of one receipt time each."""
        writer = RecordWriter(self._deps.producer, self._deps.settings.api.record_max_bytes)
        receipts: dict[int, dict[int, list[bytes]]] = {}
        for one in candidates:
            receipts.setdefault(_ms(one.received_at), {}).setdefault(one.partition, []).append(one.event)
        for received_at_ms, groups in receipts.items():
            origin = Origin(
                tenant=self._scope.tenant,
                environment=self._scope.environment,
                received_at_ms=received_at_ms,
                version=self._catalog.version,
            )
            await writer.write_groups(groups, origin)


def _parts(original: Original, fix: Fix, most: int) -> list[tuple[EventPosition, bytes]]:
    """The events of what was refused: itself, or those in a record that was refused as a whole."""
    alone = [(original.position, original.original)]
    if fix.event is not None or original.code not in _WHOLE:
        return alone
    try:
        events = split_events(original.original)
    except Invalid:
        return alone
    if len(events) > most:
        raise Invalid("replay_too_large", f"the record holds more than {most} events: send them as new ones")
    return [
        (msgspec.structs.replace(original.position, index=index), bytes(event)) for index, event in enumerate(events)
    ]


def _refused(position: EventPosition, invalid: Invalid, event: bytes | None = None) -> ReplayedEvent:
    return ReplayedEvent(
        position=position,
        status="rejected",
        event=None if event is None else Raw(event),
        code=invalid.code,
        message=invalid.message,
    )


def _pair(owner: Scope | Replay) -> tuple[str, str]:
    return owner.tenant, owner.environment


def _ms(at: datetime) -> int:
    return (at - _EPOCH) // _MILLISECOND
