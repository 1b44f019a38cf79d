"""Contracts as they travel on `contracts.changed`, and balances as they travel on `entitlements.state`.

Both topics are compacted, keyed `tenant/environment/customer id` and partitioned by `domain.identity.customer_partition`.
Readers keep the greatest version, not the last record (protocol 9).
"""

from datetime import datetime
from decimal import Decimal
from typing import Literal

import msgspec

from schemas.entitlements import DEFAULT_THRESHOLDS, UsagePeriod

FeatureKind = Literal["metered", "boolean", "static"]


class Entitlement(msgspec.Struct, frozen=True, kw_only=True):
    """What a customer may use of one feature, from one subscription.

    metered: `limit=None` is unlimited; counted by `meter_id`/`generation`/`aggregation` per `usage_period`, whose
    boundaries count from `anchor_at` in `timezone` (`domain.periods`); `never` counts from `counts_from` to `FOREVER`.
    Nothing before `counts_from` is counted (None: `starts_at`): of what was changed or paused since, where its subscription
    began.
    boolean: `enabled`. static: `config`.
    """

    feature_id: str
    feature_key: str
    kind: FeatureKind
    subscription_id: str
    starts_at: datetime
    ends_at: datetime | None = None
    counts_from: datetime | None = None
    enabled: bool = True
    config: str | None = None
    meter_id: str = ""
    generation: int = 1
    aggregation: str = "sum"
    limit: Decimal | None = None
    soft: bool = False
    usage_period: UsagePeriod = "month"
    anchor_at: datetime | None = None
    timezone: str = "UTC"
    thresholds: tuple[int, ...] = DEFAULT_THRESHOLDS


class CustomerContract(msgspec.Struct, frozen=True, kw_only=True):
    """Value of a `contracts.changed` record: everything a customer is entitled to, as of `version`."""

    version: int
    tenant: str
    environment: str
    customer_id: str
    references: list[str]
    entitlements: list[Entitlement]


class CounterState(msgspec.Struct, frozen=True, kw_only=True):
    """Usage of one (meter, generation, start, end) of a customer; `value=None` where there is none yet (min, max, ...)."""

    meter_id: str
    generation: int
    aggregation: str
    start_at: datetime
    end_at: datetime
    value: Decimal | None


class EntitlementsState(msgspec.Struct, frozen=True, kw_only=True):
    """Value of an `entitlements.state` record: contract and counters of one customer.

    `version` is (tenure of the partition's owner, number of the batch within it): the greater one wins, so that what a
    former owner still had to say changes nothing. A counter that is absent for a period that began after `as_of_ms` has
    no usage.
    """

    version: tuple[int, int]
    as_of_ms: int
    contract: CustomerContract
    counters: list[CounterState]


class PartitionFreshness(msgspec.Struct, frozen=True, kw_only=True):
    """Value of the `entitlements.state` record with key `@as_of/<partition>`: freshness of all customers of a partition."""

    partition: int
    version: tuple[int, int]
    as_of_ms: int


class ThresholdCrossed(msgspec.Struct, frozen=True, kw_only=True):
    """Value of an `entitlements.thresholds` record.

    Sent at least once: after a crash, or when state was lost, it may come again. Idempotency key, and the record's Kafka
    key: (customer, feature, subscription, period, percent); who acts on it drops keys that were acted on.
    """

    tenant: str
    environment: str
    customer_id: str
    feature_key: str
    subscription_id: str
    threshold_percent: int
    usage: Decimal
    limit: Decimal
    start_at: datetime
    end_at: datetime
    crossed_at_ms: int
