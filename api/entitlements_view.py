"""What a check is answered from: all of entitlements.state in memory, by every name of a customer."""

from datetime import UTC, datetime

import msgspec

from domain.decisions import CustomerStandings
from domain.errors import NotFound, Unavailable
from runtime.settings import KafkaSettings
from schemas.contracts import EntitlementsState, PartitionFreshness
from schemas.topics import ENTITLEMENTS_STATE
from stores.kafka import Record, TopicView

_FRESHNESS = b"@as_of/"
_MS = 1000

_states = msgspec.json.Decoder(EntitlementsState)
_freshness = msgspec.json.Decoder(PartitionFreshness)


class HeldCustomer(msgspec.Struct, kw_only=True):
    """The newest state of a customer, and the partition whose freshness it shares."""

    standings: CustomerStandings
    partition: int


class EntitlementsFold:
    """The records applied so far. One that comes again, or late from a former owner, changes nothing (protocol 9)."""

    def __init__(self) -> None:
        self._customers: dict[bytes, HeldCustomer] = {}
        self._names: dict[tuple[str, str, str], bytes] = {}
        self._as_of: dict[int, PartitionFreshness] = {}

    def apply(self, record: Record) -> None:
        key = record.key or b""
        if record.value is None:
            return
        if key.startswith(_FRESHNESS):
            told = _freshness.decode(record.value)
            known = self._as_of.get(told.partition)
            if known is None or told.version >= known.version:
                self._as_of[told.partition] = told
            return
        self._apply_state(key, record.partition, _states.decode(record.value))

    def find(self, tenant: str, environment: str, customer: str) -> HeldCustomer:
        """By id, external id or alias. Raises NotFound."""
        key = self._names.get((tenant, environment, customer))
        if key is None:
            raise NotFound("customer_not_found", f"no customer {customer!r}")
        return self._customers[key]

    def as_of(self, held: HeldCustomer) -> datetime | None:
        """Every event answered 202 before it is counted. None before anything is known."""
        told = self._as_of.get(held.partition)
        milliseconds = max(held.standings.state.as_of_ms, told.as_of_ms if told else 0)
        return datetime.fromtimestamp(milliseconds / _MS, UTC) if milliseconds else None

    def _apply_state(self, key: bytes, partition: int, state: EntitlementsState) -> None:
        known = self._customers.get(key)
        if known is not None and state.version < known.standings.state.version:
            return
        contract = state.contract
        scope = (contract.tenant, contract.environment)
        if known is not None:
            for name in known.standings.state.contract.references:
                if self._names.get((*scope, name)) == key:
                    del self._names[(*scope, name)]
        for name in (*contract.references, contract.customer_id):
            self._names[(*scope, name)] = key
        self._customers[key] = HeldCustomer(standings=CustomerStandings(state), partition=partition)


class EntitlementsView:
    """The fold, kept up to date from the topic."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._fold = EntitlementsFold()
        self._view = TopicView(settings, ENTITLEMENTS_STATE, self._fold.apply)

    @property
    def is_ready(self) -> bool:
        return self._view.is_ready

    def current(self) -> EntitlementsFold:
        """Raises Unavailable until the topic was read to its end once: a customer not read yet is not unknown."""
        if not self._view.is_ready:
            raise Unavailable("entitlements", "the balances have not been read to their end yet")
        return self._fold

    async def start(self) -> None:
        await self._view.start()

    async def caught_up(self) -> None:
        """Returns once `is_ready` has become true for the first time."""
        await self._view.caught_up()

    async def stop(self) -> None:
        await self._view.stop()
