"""Taking a partition over: what was recovered is loaded, and what was lost is made good from the topics and the ledger.

The changelog may have lost records, or all of them; deltas may be gone that were never applied. Then every counter is
read again at an exact cut (protocol 4), and contracts come from their compacted topic, read from its beginning.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import msgspec
import structlog

from domain import balances as fold
from domain.counters import wanted
from domain.delta_progress import ReadPosition, lost, tenure_after
from runtime import metrics
from runtime.clock import Clock
from schemas.balances import CustomerBalances, DeltasProgress, Versioned
from schemas.contracts import CustomerContract
from schemas.topics import CONTRACTS_CHANGED, ENTITLEMENTS_STATE, USAGE_DELTAS
from streams.balances_owned import Owned
from streams.balances_seed import Seeds
from streams.balances_table import BalancesTable
from streams.partition_reader import PartitionReader
from streams.tables import require_current

# Customers loaded or written between two turns of the event loop: heartbeats go on.
_AT_ONCE = 500

# Where this generation of the group reads a partition of a topic from. Raises Unavailable.
ReadFrom = Callable[[str, int], Awaitable[ReadPosition]]

_contracts = msgspec.json.Decoder(CustomerContract)
_versioned = msgspec.json.Decoder(Versioned)
_log = structlog.get_logger(__name__)


class LostRecordsError(Exception):
    """A record was lost between the log and this worker: it exits unacknowledged and reads it again."""


class TakeOver:
    """Safe to repeat at any point: the record of the progress is written last. `event` is one of the partition's."""

    def __init__(
        self,
        table: BalancesTable,
        seeds: Seeds,
        reader: PartitionReader,
        read_from: ReadFrom,
        *,
        topic_id: str,
        clock: Clock,
    ) -> None:
        self._table = table
        self._seeds = seeds
        self._reader = reader
        self._read_from = read_from
        self._topic_id = topic_id
        self._clock = clock

    async def owned(self, partition: int, event: Any) -> Owned:
        """The partition as this generation takes it over. Raises Unavailable; NotOwnedError when it is another's by now."""
        deltas = await self._read_from(USAGE_DELTAS, partition)
        contracts = await self._read_from(CONTRACTS_CHANGED, partition)
        require_current(event)
        found = self._table.progress(event)
        reason = lost(found, deltas=deltas, contracts=contracts)
        told = await self._told(partition) if found is None and reason else 0
        generation = event.message.generation_id
        progress = DeltasProgress(
            # protocol 9: whatever a former owner still has to say, this one's versions are greater.
            version=(tenure_after(found, generation, told), 0),
            generation=generation,
            topic_id=found.topic_id if found is not None else self._topic_id,
            applied=found.applied if found is not None else {},
            floor=found.floor if found is not None else {},
        )
        if reason:
            progress = await self.mend(partition, event, progress, reason)
        owned = Owned(progress, next_deltas=deltas.next_offset, next_contracts=contracts.next_offset)
        await self._load(partition, event, owned)
        return owned

    async def mend(self, partition: int, event: Any, progress: DeltasProgress, reason: str) -> DeltasProgress:
        """Every contract as its topic has it, every counter to be read again, and the deltas go on above the ledger's
        last done blocks, which were read before any counter will be.
        """
        _log.warning("balances are made good from contracts and usage", partition=partition, reason=reason)
        restored = 0
        async for records in self._reader.read(CONTRACTS_CHANGED, partition):
            require_current(event)
            restored += self._restore(event, progress, records)
            await self._table.drained()
        at = await self._seeds.positions()
        mended = msgspec.structs.replace(progress, applied=dict(at.vector), floor=dict(at.vector))
        require_current(event)
        self._table.write(event, {}, mended)
        await self._table.drained()
        metrics.balances_mended.inc()
        _log.warning("balances are made good: counters are being read", partition=partition, customers=restored)
        return mended

    async def again(self, partition: int, event: Any, owned: Owned, reason: str) -> Owned:
        """The partition anew, made good, in the tenure it is in."""
        progress = msgspec.structs.replace(owned.progress, version=owned.version)
        progress = await self.mend(partition, event, progress, reason)
        renewed = Owned(progress, next_deltas=owned.next_deltas, next_contracts=owned.next_contracts)
        renewed.as_of, renewed.told_as_of = owned.as_of, owned.told_as_of
        await self._load(partition, event, renewed)
        return renewed

    async def check_order(self, partition: int, owned: Owned, messages: Sequence[Any]) -> None:
        """Raises LostRecordsError when the log has a record that did not come: a restart reads it again.

        Offsets of the deltas have no holes. Those of the contracts do, where older ones were compacted away: there the
        log is asked.
        """
        next_deltas, next_contracts = owned.next_deltas, owned.next_contracts
        contracts = [message.offset for message in messages if message.topic == CONTRACTS_CHANGED]
        for message in messages:
            if message.topic == CONTRACTS_CHANGED:
                continue
            if message.offset > next_deltas:
                raise LostRecordsError(f"{message.tp}: {message.offset} came where {next_deltas} should have")
            next_deltas = max(next_deltas, message.offset + 1)
        if not contracts or set(range(next_contracts, max(contracts))) <= set(contracts):
            return
        came = set(contracts)
        async for records in self._reader.read(CONTRACTS_CHANGED, partition, next_contracts, max(contracts)):
            for record in records:
                if record.offset not in came:
                    raise LostRecordsError(f"{CONTRACTS_CHANGED}/{partition}: {record.offset} did not come")

    def _restore(self, event: Any, progress: DeltasProgress, records: Sequence[Any]) -> int:
        now = self._clock.now()
        newest: dict[str, CustomerContract] = {}
        for record in records:
            if record.value is None:
                continue
            try:
                contract = _contracts.decode(record.value)
            except msgspec.DecodeError as error:
                _log.error("a contract cannot be read", offset=record.offset, error=str(error))
                continue
            newest[f"{contract.tenant}/{contract.environment}/{contract.customer_id}"] = contract
        changed: dict[str, CustomerBalances] = {}
        for name, contract in newest.items():
            held = self._table.customer(event, name)
            after = fold.with_contract(held, contract, now)
            if after is not held:
                changed[name] = msgspec.structs.replace(after, version=progress.version)
        self._table.write(event, changed, None)
        return len(newest)

    async def _told(self, partition: int) -> int:
        """The greatest tenure that readers of the states know: what is told from now on must lie above."""
        greatest = 0
        async for records in self._reader.read(ENTITLEMENTS_STATE, partition):
            for record in records:
                with contextlib.suppress(msgspec.DecodeError):
                    greatest = max(greatest, _versioned.decode(record.value or b"").version[0])
        return greatest

    async def _load(self, partition: int, event: Any, owned: Owned) -> None:
        now = self._clock.now()
        async for name, found in self._customers(partition):
            balances = fold.behind(found, owned.progress.floor)
            owned.note(name, balances)
            keys = fold.to_read(balances, now)
            if keys:
                owned.pending[name] = None
                if any(key.start_s <= now.timestamp() for key in keys):
                    owned.unread.add(name)  # not those of which only the next period is not there yet
            else:
                owned.select_until(wanted(balances.contract, now)[1], name)
        require_current(event)

    async def _customers(self, partition: int) -> AsyncIterator[tuple[str, CustomerBalances]]:
        for number, found in enumerate(self._table.customers_of(partition)):
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
            yield found
