"""What the balances worker keeps: values of its table, one JSON record a key.

Every value leads with `version`, (tenure of its owner, number of the batch within it): a later owner's is always greater,
so that a recovery can keep the greatest, not the last (protocol 9).
"""

from decimal import Decimal

from msgspec import Struct

from schemas.contracts import CustomerContract
from schemas.deltas import Latest
from schemas.meters import Aggregation

Version = tuple[int, int]


class CounterKey(Struct, frozen=True, kw_only=True, order=True):
    """What a counter counts: a meter of one generation in `[start_s, end_s)`, epoch seconds (protocol 23)."""

    meter_id: str
    generation: int
    start_s: int
    end_s: int


class Counter(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Usage of one key. `guard` is the last applied block offset of every source partition (protocol 22).

    `due` says that the value is to be read again: a unique count that was touched, or a customer with other references.
    """

    key: CounterKey
    aggregation: Aggregation
    guard: dict[int, int]
    matches: int = 0
    values: int = 0
    total: Decimal = Decimal(0)
    lowest: Decimal | None = None
    highest: Decimal | None = None
    latest: Latest | None = None
    uniques: int = 0
    due: bool = False


class CustomerBalances(Struct, frozen=True, kw_only=True):
    """Value under `tenant/environment/customer id`. `crossed` names the thresholds that were told."""

    version: Version
    contract: CustomerContract
    counters: tuple[Counter, ...] = ()
    crossed: tuple[str, ...] = ()


class DeltasProgress(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Value under `@progress/<partition>`, written with every batch.

    `applied` is the last applied block offset of every source partition. A counter whose guard does not cover `floor` is
    to be read again: state was lost below it. `generation` is the consumer group's in which the tenure began. The next
    offsets of both topics never lie below what the group has committed: else this record is not the newest there was.
    """

    version: Version
    topic_id: str
    applied: dict[int, int]
    floor: dict[int, int] = {}
    generation: int = 0
    next_deltas: int | None = None
    next_contracts: int | None = None


class Versioned(Struct, frozen=True, kw_only=True):
    """Any value of the table, read for its version alone."""

    version: Version
