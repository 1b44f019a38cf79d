"""The catalog at a version: what holds there never changes, whatever comes later."""

from typing import Any

import msgspec
import pytest

from domain.catalog import CatalogGapError, CatalogLog
from schemas.catalog import CatalogChange, CatalogVersion, TenantLimits
from schemas.meters import Meter


def version(number: int, *changes: tuple[Any, str, dict[str, Any] | None]) -> CatalogVersion:
    return CatalogVersion(
        version=number,
        changes=[
            CatalogChange(kind=kind, tenant="acme", environment="live", key=key, body=body)
            for kind, key, body in changes
        ],
    )


def customer(key: str, *references: str) -> tuple[Any, str, dict[str, Any] | None]:
    return "customer", key, {"id": key, "references": list(references)}


def meter(key: str) -> tuple[Any, str, dict[str, Any] | None]:
    return "meter", key, msgspec.to_builtins(Meter(id=key, key=key, event_types=("call",), aggregation="count"))


def resolved(log: CatalogLog, at: int, reference: str) -> str:
    return log.at(at).resolve("acme", "live", reference)


def test_a_reference_means_at_each_version_what_it_meant_then() -> None:
    log = CatalogLog()
    log.append(version(1, customer("cus_1", "a", "b")))
    log.append(version(2, customer("cus_1", "a")))
    log.append(version(3, customer("cus_2", "b")))
    log.append(version(4, ("customer", "cus_2", None)))
    assert [resolved(log, at, "b") for at in range(5)] == ["", "cus_1", "", "cus_2", ""]
    assert [resolved(log, at, "a") for at in range(5)] == ["", "cus_1", "cus_1", "cus_1", "cus_1"]


def test_a_reference_taken_over_in_one_version_stays_with_its_new_owner() -> None:
    log = CatalogLog()
    log.append(version(1, customer("cus_1", "a")))
    log.append(version(2, customer("cus_2", "a"), customer("cus_1")))
    assert resolved(log, 2, "a") == "cus_2"


def test_meters_are_those_of_the_version_in_the_order_of_their_ids() -> None:
    log = CatalogLog()
    log.append(version(1, meter("m_2")))
    log.append(version(2, meter("m_1")))
    log.append(version(3, ("meter", "m_2", None)))
    found = [[one.id for one in log.at(at).compiled("acme", "live").meters] for at in range(4)]
    assert found == [[], ["m_2"], ["m_1", "m_2"], ["m_1"]]
    assert log.at(3).compiled("acme", "test").meters == ()


def test_limits_are_the_defaults_until_they_are_set() -> None:
    log = CatalogLog()
    log.append(version(1))
    log.append(version(2, ("limits", "", {"max_event_age_s": 60})))
    assert log.at(1).limits("acme", "live") == TenantLimits()
    assert log.at(2).limits("acme", "live").max_event_age_s == 60


def test_a_version_delivered_twice_changes_nothing_and_a_missing_one_is_an_error() -> None:
    log = CatalogLog()
    assert log.append(version(1, meter("m_1")))
    assert not log.append(version(1))
    with pytest.raises(CatalogGapError):
        log.append(version(3))
    with pytest.raises(CatalogGapError):
        log.at(2)
    assert log.head == 1
