"""States are kept packed, and come out as they went in: whatever was the dictionary, whoever was asked about before."""

from datetime import UTC, datetime
from decimal import Decimal

import msgspec
import pytest

from api.entitlements_view import EntitlementsFold
from domain.errors import NotFound
from schemas.contracts import CounterState, CustomerContract, Entitlement, EntitlementsState
from stores.kafka import Record

BEGAN, END = datetime(2026, 4, 1, tzinfo=UTC), datetime(2026, 5, 1, tzinfo=UTC)
CUSTOMERS = 120


def state(number: int, *, version: tuple[int, int] = (1, 1), used: int = 0, alias: str = "") -> EntitlementsState:
    held = [
        Entitlement(
            feature_id=f"fea_{place}",
            feature_key=f"feature-{place}",
            kind="metered",
            subscription_id=f"sub_{number}",
            starts_at=BEGAN,
            anchor_at=BEGAN,
            meter_id=f"met_{place}",
            limit=Decimal(1000 + number),
        )
        for place in range(4)
    ]
    contract = CustomerContract(
        version=1,
        tenant="acme",
        environment="live",
        customer_id=f"cus_{number}",
        references=[f"cus_{number}", alias or f"name-{number}"],
        entitlements=held,
    )
    counters = [
        CounterState(
            meter_id=one.meter_id,
            generation=1,
            aggregation="sum",
            start_at=BEGAN,
            end_at=END,
            value=Decimal(used + number),
        )
        for one in held
    ]
    return EntitlementsState(version=version, as_of_ms=1, contract=contract, counters=counters)


def record(value: EntitlementsState, partition: int = 3) -> Record:
    key = f"acme/live/{value.contract.customer_id}".encode()
    return Record(partition=partition, offset=0, timestamp_ms=0, key=key, value=msgspec.json.encode(value))


def test_many_customers_come_out_as_they_went_in_however_few_are_kept_decoded() -> None:
    """Some are packed before there is a dictionary, most by it."""
    fold = EntitlementsFold(decoded_max=2)
    for number in range(CUSTOMERS):
        fold.apply(record(state(number)))
    for number in (*range(CUSTOMERS), *reversed(range(CUSTOMERS))):
        by_id, by_name = fold.find("acme", "live", f"cus_{number}"), fold.find("acme", "live", f"name-{number}")
        assert by_id.standings.state == by_name.standings.state == state(number)
        assert by_id.partition == 3


def test_the_next_state_takes_the_place_of_one_that_was_asked_about() -> None:
    fold = EntitlementsFold()
    for number in range(CUSTOMERS):
        fold.apply(record(state(number)))
        fold.find("acme", "live", f"cus_{number}")
    for number in range(CUSTOMERS):
        fold.apply(record(state(number, version=(1, 2), used=7, alias=f"new-{number}"), partition=5))
        fold.apply(record(state(number, version=(1, 1), used=9)))  # late, from a former owner
        found = fold.find("acme", "live", f"new-{number}")
        assert (found.standings.state.counters[0].value, found.partition) == (Decimal(7 + number), 5)
        with pytest.raises(NotFound):
            fold.find("acme", "live", f"name-{number}")


def test_a_name_with_a_slash_reaches_nobody_elses_customer() -> None:
    fold = EntitlementsFold()
    fold.apply(record(state(1)))
    for tenant, environment, customer in (("acme", "live/cus_1", ""), ("acme/live", "cus_1", ""), ("acme", "", "")):
        with pytest.raises(NotFound):
            fold.find(tenant, environment, customer)
    fold.apply(Record(partition=0, offset=0, timestamp_ms=0, key=b"a/b/c", value=msgspec.json.encode(state(2))))
    with pytest.raises(NotFound):
        fold.find("a", "b", "c")
