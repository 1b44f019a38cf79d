"""The steps of a batch of deltas and contracts: fold, read what is missing, tell, write."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from itertools import islice
from typing import Any

import msgspec
import structlog
from msgspec.structs import replace

from domain import balances as fold
from domain.counters import wanted
from domain.delta_progress import advanced, first_gap, follows
from runtime import metrics
from schemas.balances import CustomerBalances
from schemas.contracts import CustomerContract, EntitlementsState, PartitionFreshness
from schemas.deltas import BlockDeltas
from schemas.topics import CONTRACTS_CHANGED, ENTITLEMENTS_STATE, ENTITLEMENTS_THRESHOLDS, USAGE_DELTAS
from streams.balances_foreign import Foreign
from streams.balances_owned import Batch, Owned, Share
from streams.balances_reconcile import Reconciliation
from streams.balances_seed import MAX_COUNTERS, Pace, Seeds, Wish
from streams.balances_table import BalancesTable
from streams.balances_takeover import TakeOver
from streams.consume import Rejection
from streams.deps import WorkerDeps
from streams.tables import is_current

# Customers looked at by one batch for counters to read.
_LOOKED_AT = 1_000

_encoder = msgspec.json.Encoder()
_deltas = msgspec.json.Decoder(BlockDeltas)
_contracts = msgspec.json.Decoder(CustomerContract)
_log = structlog.get_logger(__name__)


class Incoming(msgspec.Struct, frozen=True, kw_only=True):
    """A record of either topic. A tombstone is neither, nor is what cannot be read."""

    event: Any
    deltas: BlockDeltas | None = None
    contract: CustomerContract | None = None


class Balances:
    """`streams.consume.Steps` of the balances worker. In each generation of the group a partition is taken over anew."""

    def __init__(
        self,
        deps: WorkerDeps,
        table: BalancesTable,
        seeds: Seeds,
        take_over: TakeOver,
        foreign: Foreign,
        reconciliation: Reconciliation,
    ) -> None:
        self._deps = deps
        self._table = table
        self._seeds = seeds
        self._take_over = take_over
        self._foreign = foreign
        self._reconciliation = reconciliation
        self._owned: dict[int, Owned] = {}
        self._pace = Pace(deps.clock)
        self._emitted_at = 0.0

    def decode(self, event: Any) -> Incoming:
        """Never refuses: also what cannot be read has its place in the order. Missing deltas are then made good."""
        message = event.message
        try:
            if message.topic == USAGE_DELTAS:
                return Incoming(event=event, deltas=_deltas.decode(message.value or b""))
            if message.value is not None:
                return Incoming(event=event, contract=_contracts.decode(message.value))
        except msgspec.DecodeError as error:
            _log.error("a record cannot be read", topic=message.topic, offset=message.offset, reason=str(error))
        return Incoming(event=event)

    async def prepare(self, decoded: Sequence[Incoming]) -> None:
        """Take over what is new, and make good what was lost, before anything is folded."""
        for partition, incoming in _by_partition(decoded).items():
            event = incoming[-1].event
            owned = self._owned.get(partition)
            if owned is None or owned.generation != event.message.generation_id:
                generation = event.message.generation_id
                self._owned = {number: one for number, one in self._owned.items() if one.generation == generation}
                self._owned[partition] = owned = await self._take_over.owned(partition, event)
            await self._take_over.check_order(partition, owned, [one.event.message for one in incoming])
            await self._foreign.outlive(partition, event, owned)
            reason = first_gap(owned.progress, [one.deltas for one in incoming if one.deltas is not None])
            if reason:
                # The log gave every record: what is missing is not in it, and no restart would bring it.
                self._owned[partition] = await self._take_over.again(partition, event, owned, reason)

    def step(self, decoded: Sequence[Incoming]) -> Batch:
        return Batch([self._fold(partition, own) for partition, own in _by_partition(decoded).items()])

    async def emit(self, effects: Batch, rejected: Sequence[Rejection]) -> None:  # noqa: ARG002 - `decode` refuses none
        """State and thresholds leave before the table is written, under versions that never fall."""
        await self._paced()
        if not effects.settled:
            await self._read(effects)
            self._settle(effects)
            effects.settled = True
        await asyncio.gather(*(self._tell(share) for share in effects.shares))

    async def write(self, effects: Batch, events: Sequence[Any]) -> None:  # noqa: ARG002 - each share has its own event
        for share in effects.shares:
            owned = share.owned
            changed = {name: one for name, one in share.after.items() if one != share.before[name]}
            # With every batch: where the record says less than was acknowledged, state was lost.
            progress = replace(
                share.progress,
                version=owned.version,
                next_deltas=owned.next_deltas,
                next_contracts=owned.next_contracts,
            )
            self._table.write(share.event, changed, progress)
            owned.progress = progress
        await self._table.drained()
        for share in effects.shares:
            if is_current(share.event):
                self._reconciliation.offer(share.partition, share.owned, self._owned)

    # --- folding ---

    def _fold(self, partition: int, incoming: Sequence[Incoming]) -> Share:
        owned = self._owned[partition]
        share = Share(partition, owned, incoming[-1].event)
        tenure, batch = owned.version
        owned.version = (tenure, batch + 1)
        now = self._deps.clock.now()
        self._fold_differing(share)
        for one in incoming:
            after = one.event.message.offset + 1
            if one.event.message.topic == CONTRACTS_CHANGED:
                owned.next_contracts = max(owned.next_contracts, after)
            else:
                owned.next_deltas = max(owned.next_deltas, after)
            if one.contract is not None:
                self._fold_contract(share, one.contract, now)
            elif one.deltas is not None:
                self._fold_deltas(share, one.deltas)
        owned.take_due(now)
        return share

    def _fold_differing(self, share: Share) -> None:
        for name, keys in share.owned.differing.items():
            held = self._held(share, name)
            if held is not None:
                share.after[name] = fold.with_due(held, keys)
                share.touched.add(name)
        share.owned.differing = {}
        share.touched |= {name for name in share.owned.retold if self._retell(share, name)}
        share.owned.retold = set()

    def _retell(self, share: Share, name: str) -> bool:
        held = self._held(share, name)
        if held is not None:
            share.after[name] = held
        return held is not None

    def _fold_contract(self, share: Share, contract: CustomerContract, now: datetime) -> None:
        name = f"{contract.tenant}/{contract.environment}/{contract.customer_id}"
        share.after[name] = fold.with_contract(self._held(share, name), contract, now)
        share.touched.add(name)
        share.owned.pending[name] = None

    def _fold_deltas(self, share: Share, deltas: BlockDeltas) -> None:
        owned, source = share.owned, deltas.partition
        if deltas.is_tick:
            if deltas.last_offset <= share.progress.applied.get(source, -1):
                owned.as_of[source] = max(owned.as_of.get(source, 0), deltas.as_of_ms)
            return
        if not follows(share.progress, deltas):
            return
        for name, changes in fold.by_customer(deltas.changes).items():
            held = self._held(share, name)
            if held is None:
                continue  # no contract: the seed finds it later
            share.after[name] = fold.with_block(held, source, deltas.last_offset, changes)
            share.touched.add(name)
        share.progress = advanced(share.progress, deltas)
        owned.as_of[source] = max(owned.as_of.get(source, 0), deltas.as_of_ms)

    def _held(self, share: Share, name: str) -> CustomerBalances | None:
        if name in share.after:
            return share.after[name]
        if name not in share.before:
            share.before[name] = self._table.customer(share.event, name)
        held = share.before[name]
        return None if held is None else fold.behind(held, share.owned.progress.floor)

    # --- reading ---

    async def _read(self, batch: Batch) -> None:
        now = self._deps.clock.now()
        for share in batch.shares:
            for name in share.touched:
                share.owned.note(name, share.after[name])
        rereads = self._pace.may_reread()
        if not any(share.owned.has_work(rereads=rereads) for share in batch.shares):
            return
        at = await self._seeds.positions()
        if rereads:
            self._pace.begin()
        room = MAX_COUNTERS
        for share in batch.shares:
            wishes = self._wishes(share, now, at.version, room, rereads=rereads)
            room -= sum(len(wish.keys) for wish in wishes)
            held = {wish.name: share.after[wish.name] for wish in wishes}
            share.after |= await self._seeds.read(wishes, held, at)
            self._done_reading(share, wishes, now)
            metrics.balances_read.inc(sum(len(wish.keys) for wish in wishes))
            metrics.balances_pending.labels(str(share.partition)).set(len(share.owned.pending))
        if rereads:
            self._pace.end()

    def _wishes(self, share: Share, now: datetime, version: int, room: int, *, rereads: bool) -> list[Wish]:
        wishes: list[Wish] = []
        pending = share.owned.pending
        for name in list(islice(pending, _LOOKED_AT)):
            held = self._held(share, name)
            if held is None:
                share.owned.forget(name)
                continue
            pruned = fold.pruned(held, now)
            share.after[name] = pruned
            share.owned.note(name, pruned)  # what was behind may have ended
            keys = fold.to_read(pruned, now)
            if not rereads:
                due = {one.key for one in pruned.counters if one.due}
                keys = {key: aggregation for key, aggregation in keys.items() if key not in due}
            if (keys or name in share.owned.stale) and (
                not keys or pruned.contract.version > version or len(keys) > room
            ):
                # Not yet: behind the others, so that they get their turn.
                del pending[name]
                pending[name] = None
                continue
            room -= len(keys)
            wishes.append(Wish(name=name, contract=pruned.contract, keys=keys))
        return wishes

    def _done_reading(self, share: Share, wishes: Sequence[Wish], now: datetime) -> None:
        for wish in wishes:
            share.owned.forget(wish.name)
            balances = share.after[wish.name]
            share.owned.note(wish.name, balances)
            share.owned.select_until(wanted(balances.contract, now)[1], wish.name)
            share.touched.add(wish.name)

    # --- telling ---

    def _settle(self, batch: Batch) -> None:
        now = self._deps.clock.now()
        for share in batch.shares:
            for name in share.touched:
                share.after[name], crossed = fold.with_crossings(share.after[name], now)
                share.crossed += crossed
            for name, balances in share.after.items():
                if balances != share.before.get(name):
                    share.after[name] = replace(balances, version=share.owned.version)

    async def _tell(self, share: Share) -> None:
        told = await asyncio.gather(*self._sends(share))
        # After the states that it speaks of.
        told += await asyncio.gather(*self._freshness(share))
        share.owned.note_told(one.offset for one in told if one.topic == ENTITLEMENTS_STATE)

    def _sends(self, share: Share) -> list[Any]:
        owned, partition, producer = share.owned, share.partition, self._deps.producer
        as_of = owned.fresh_as_of(self._deps.settings.kafka.raw_partitions)
        sends = []
        for name in share.touched:
            balances = share.after[name]
            state = EntitlementsState(
                version=owned.version,
                as_of_ms=as_of,
                contract=balances.contract,
                counters=fold.counter_states(balances),
            )
            sends.append(producer.send(ENTITLEMENTS_STATE, partition, key=name.encode(), value=_encoder.encode(state)))
        sends += [
            producer.send(
                ENTITLEMENTS_THRESHOLDS, partition, key=fold.threshold_key(one).encode(), value=_encoder.encode(one)
            )
            for one in share.crossed
        ]
        return sends

    def _freshness(self, share: Share) -> list[Any]:
        owned, partition = share.owned, share.partition
        as_of = owned.fresh_as_of(self._deps.settings.kafka.raw_partitions)
        if not as_of:
            return []
        freshness = PartitionFreshness(partition=partition, version=owned.version, as_of_ms=as_of)
        key, value = f"@as_of/{partition}".encode(), _encoder.encode(freshness)
        return [self._deps.producer.send(ENTITLEMENTS_STATE, partition, key=key, value=value)]

    async def _paced(self) -> None:
        """Batches leave at most once a flush interval: what comes meanwhile makes the next one larger, not more of them."""
        loop = asyncio.get_running_loop()
        left_s = self._emitted_at + self._deps.settings.balances.flush_interval_s - loop.time()
        if left_s > 0:
            await asyncio.sleep(left_s)
        self._emitted_at = loop.time()


def _by_partition(decoded: Sequence[Incoming]) -> dict[int, list[Incoming]]:
    found: defaultdict[int, list[Incoming]] = defaultdict(list)
    for one in decoded:
        found[one.event.message.partition].append(one)
    return found
