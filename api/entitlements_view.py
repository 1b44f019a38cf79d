"""What a check is answered from: all of entitlements.state in memory, by every name of a customer."""

from collections import defaultdict
from datetime import UTC, datetime
from functools import lru_cache

import msgspec

from api.packed_states import Names, PackedHead, StateHead, StatePacker, names_hash
from domain.decisions import CustomerStandings
from domain.errors import NotFound, Unavailable
from runtime.settings import KafkaSettings
from schemas.contracts import EntitlementsState, PartitionFreshness
from schemas.topics import ENTITLEMENTS_STATE
from stores.kafka import Record, TopicView

_FRESHNESS = b"@as_of/"
_MS = 1000

# Decoded, of those asked about last: some 26 KB each with ten features.
DECODED_MAX = 1_000

_NOBODY: dict[str, bytes] = {}

_states = msgspec.json.Decoder(EntitlementsState)
_heads = msgspec.json.Decoder(StateHead)
_freshness = msgspec.json.Decoder(PartitionFreshness)


class HeldCustomer(msgspec.Struct, kw_only=True):
    """The newest state of a customer, and the partition whose freshness it shares."""

    standings: CustomerStandings
    partition: int


class EntitlementsFold:
    """The records applied so far. One that comes again, or late from a former owner, changes nothing (protocol 9)."""

    def __init__(self, decoded_max: int = DECODED_MAX) -> None:
        self._packer = StatePacker()
        self._packed: dict[bytes, bytes] = {}
        # The other names of a customer, by tenant and environment: its id is in its key.
        self._names: defaultdict[tuple[str, str], dict[str, bytes]] = defaultdict(dict)
        self._decoded: dict[bytes, HeldCustomer] = {}
        self._decoded_max = decoded_max
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
        self._apply_state(key, record.partition, record.value)

    def find(self, tenant: str, environment: str, customer: str) -> HeldCustomer:
        """By id, external id or alias. Raises NotFound."""
        key: bytes | None = _key_of(tenant, environment, customer)
        if key not in self._packed:
            key = self._names.get((tenant, environment), _NOBODY).get(customer)
        if key is None:
            raise NotFound("customer_not_found", f"no customer {customer!r}")
        # Asked about last is last: the first of the dictionary is the one to go.
        held = self._decoded.pop(key, None) or self._unpacked(key)
        self._decoded[key] = held
        contract = held.standings.state.contract
        if (contract.tenant, contract.environment) != (tenant, environment):  # a slash in a name, and keys look alike
            raise NotFound("customer_not_found", f"no customer {customer!r}")
        if len(self._decoded) > self._decoded_max:
            del self._decoded[next(iter(self._decoded))]
        return held

    def as_of(self, held: HeldCustomer) -> datetime | None:
        """Every event answered 202 before it is counted. None before anything is known."""
        told = self._as_of.get(held.partition)
        milliseconds = max(held.standings.state.as_of_ms, told.as_of_ms if told else 0)
        return _instant(milliseconds) if milliseconds else None

    def _unpacked(self, key: bytes) -> HeldCustomer:
        packed = self._packed[key]
        state = _states.decode(self._packer.value(packed))
        return HeldCustomer(standings=CustomerStandings(state), partition=self._packer.head(packed).partition)

    def _apply_state(self, key: bytes, partition: int, value: bytes) -> None:
        told, known = _heads.decode(value), self._packed.get(key)
        held = None if known is None else self._packer.head(known)
        if held is not None and told.version < held.version:
            return
        head = PackedHead(told.version, partition, names_hash(told.contract.references))
        if held is None or held.names != head.names:
            self._rename(key, known, told.contract)
        self._packed[key] = self._packer.pack(head, value)
        self._decoded.pop(key, None)

    def _rename(self, key: bytes, known: bytes | None, contract: Names) -> None:
        names = self._names[contract.tenant, contract.environment]
        former = [] if known is None else _heads.decode(self._packer.value(known)).contract.references
        for name in former:
            if names.get(name) == key:
                del names[name]
        for name in (*contract.references, contract.customer_id):
            if _key_of(contract.tenant, contract.environment, name) != key:
                names[name] = key


@lru_cache(maxsize=1_024)
def _instant(milliseconds: int) -> datetime:
    # All customers of a partition share it.
    return datetime.fromtimestamp(milliseconds / _MS, UTC)


def _key_of(tenant: str, environment: str, customer_id: str) -> bytes:
    return f"{tenant}/{environment}/{customer_id}".encode()


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
