from decimal import Decimal
from typing import Any

import msgspec
import pytest

from domain.errors import Invalid
from domain.pricing import rate, validate_price
from domain.pricing.validate_terms import check_subscription_commitment
from schemas.price_terms import Commitment
from schemas.prices import FlatPrice, GraduatedPrice, PackagePrice, PerUnitPrice, Price, Tier, VolumePrice

D = Decimal
TIERS = (
    Tier(up_to=D(10), unit_amount=D(10), flat_amount=D(2)),
    Tier(up_to=D(20), unit_amount=D(5), flat_amount=D(3)),
    Tier(unit_amount=D(1), flat_amount=D(4)),
)


@pytest.mark.parametrize(
    ("price", "quantity", "amount"),
    [
        (FlatPrice(amount=D("9.99")), "0", "9.99"),
        (FlatPrice(amount=D("9.99")), "1000", "9.99"),
        (PerUnitPrice(unit_amount=D("0.1"), free_units=D(100)), "100", "0"),
        (PerUnitPrice(unit_amount=D("0.1"), free_units=D(100)), "100.5", "0.05"),
        (PackagePrice(amount=D(5), package_size=D(10)), "0", "0"),
        (PackagePrice(amount=D(5), package_size=D(10)), "10.000000000001", "10"),
        (PackagePrice(amount=D(5), package_size=D(10), rounding="down"), "19", "5"),
        (PackagePrice(amount=D(5), package_size=D(10), free_units=D(5)), "15", "5"),
        (GraduatedPrice(tiers=TIERS), "0", "2"),
        (GraduatedPrice(tiers=TIERS), "10", "102"),
        (GraduatedPrice(tiers=TIERS), "10.5", "107.5"),
        (GraduatedPrice(tiers=TIERS), "25", "164"),
        (GraduatedPrice(tiers=TIERS, free_units=D(5)), "15", "102"),
        (VolumePrice(tiers=TIERS), "0", "2"),
        (VolumePrice(tiers=TIERS), "10", "102"),
        (VolumePrice(tiers=TIERS), "11", "58"),
        (VolumePrice(tiers=TIERS), "21", "25"),
        (PerUnitPrice(unit_amount=D(3)), "-5", "0"),
    ],
)
def test_a_model_prices_a_quantity(price: Price, quantity: str, amount: str) -> None:
    line = rate(price, D(quantity), "USD")
    assert line.amount == D(amount)
    assert line.quantity == D(quantity)
    assert sum((step.amount for step in line.steps), D(0)) == line.exact_amount


def test_a_line_is_rounded_once_and_keeps_its_exact_amount() -> None:
    line = rate(PerUnitPrice(unit_amount=D("0.001")), D(1005), "USD")
    assert (line.exact_amount, line.amount) == (D("1.005"), D("1.01"))


def test_the_steps_say_which_units_cost_what() -> None:
    line = rate(GraduatedPrice(tiers=TIERS, free_units=D(3)), D(15), "USD")
    assert [
        (step.kind, int(step.from_quantity), int(step.to_quantity), int(step.quantity), int(step.amount))
        for step in line.steps
    ] == [
        ("free_units", 0, 3, 3, 0),
        ("tier_units", 3, 13, 10, 100),
        ("tier_flat", 3, 13, 1, 2),
        ("tier_units", 13, 15, 2, 10),
        ("tier_flat", 13, 15, 1, 3),
    ]


@pytest.mark.parametrize(
    ("body", "codes"),
    [
        ('{"model": "flat", "amount": "-1"}', ["/amount negative_amount"]),
        ('{"model": "flat", "amount": "NaN"}', ["/amount not_a_number"]),
        ('{"model": "per_unit", "unit_amount": "0.0000000000001"}', ["/unit_amount too_many_fraction_digits"]),
        (
            '{"model": "per_unit", "unit_amount": "1e26", "free_units": "-1"}',
            ["/unit_amount quantity_out_of_range", "/free_units negative_amount"],
        ),
        ('{"model": "package", "amount": "1", "package_size": "0"}', ["/package_size package_size_not_positive"]),
        ('{"model": "volume", "tiers": []}', ["/tiers tiers_missing"]),
        ('{"model": "volume", "tiers": [{"up_to": "5"}]}', ["/tiers/0/up_to tiers_gap"]),
        ('{"model": "graduated", "tiers": [{}, {}]}', ["/tiers/0/up_to tiers_overlap"]),
        ('{"model": "graduated", "tiers": [{"up_to": "0"}, {}]}', ["/tiers/0/up_to tier_not_positive"]),
        (
            '{"model": "graduated", "tiers": [{"up_to": "5"}, {"up_to": "5"}, {"unit_amount": "-1"}]}',
            ["/tiers/1/up_to tiers_overlap", "/tiers/2/unit_amount negative_amount"],
        ),
    ],
)
def test_a_wrong_price_is_refused_with_every_reason(body: str, codes: list[str]) -> None:
    price = msgspec.json.decode(body, type=Price)
    with pytest.raises(Invalid) as refused:
        validate_price(price)
    assert [f"{error.pointer} {error.code}" for error in refused.value.details] == codes
    assert refused.value.code == codes[0].split()[1]


def test_the_model_is_the_tag_and_unknown_fields_are_refused() -> None:
    price = msgspec.json.decode('{"model": "package", "amount": "5", "package_size": "10"}', type=Price)
    assert price == PackagePrice(amount=D(5), package_size=D(10))
    assert msgspec.json.decode(msgspec.json.encode(price), type=Price) == price
    for body in ('{"model": "flat", "amount": "5", "tax": "1"}', '{"model": "magic"}', '{"amount": "5"}'):
        with pytest.raises(msgspec.ValidationError):
            msgspec.json.decode(body, type=Price)


def _body(model: str, **fields: Any) -> dict[str, Any]:
    required: dict[str, dict[str, Any]] = {
        "flat": {"amount": "1"},
        "per_unit": {"unit_amount": "1"},
        "percentage": {"rate_percent": "1"},
        "matrix": {"dimensions": ["region"], "cells": [], "default_unit_amount": "1"},
        "dynamic": {},
        "graduated_percentage": {"tiers": [{"rate_percent": "1"}]},
    }
    return {"model": model, **required[model], **fields}


HOURS: dict[str, Any] = {"size": "hour"}
WINDOW: dict[str, Any] = {"amount": "1", "per": "window"}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (_body("per_unit", discounts=[{"percent": "100.1"}]), "/discounts/0/percent rate_out_of_range"),
        (_body("per_unit", discounts=[{"percent": "1"}] * 21), "/discounts too_many_discounts"),
        (_body("flat", minimum_amount="2", maximum_amount="1"), "/minimum_amount limits_crossed"),
        (_body("flat", pricing_unit={"code": " ", "rate": "1"}), "/pricing_unit/code unit_malformed"),
        (_body("flat", pricing_unit={"code": "credits", "rate": "0"}), "/pricing_unit/rate factor_not_positive"),
        (_body("per_unit", conversion={"factor": "0"}), "/conversion/factor factor_not_positive"),
        (_body("percentage", rate_percent="101"), "/rate_percent rate_out_of_range"),
        (_body("percentage", event_minimum="2", event_maximum="1"), "/event_minimum limits_crossed"),
        (_body("percentage", free_events=-1), "/free_events negative_amount"),
        (_body("dynamic", multiplier="-1"), "/multiplier negative_amount"),
        (_body("graduated_percentage", tiers=[{"rate_percent": "101"}]), "/tiers/0/rate_percent rate_out_of_range"),
        (_body("graduated_percentage", tiers=[{"up_to": "1"}]), "/tiers/0/up_to tiers_gap"),
        (_body("matrix", dimensions=["a", "a"]), "/dimensions matrix_dimensions_malformed"),
        (_body("matrix", dimensions=["a", "b", "c"]), "/dimensions matrix_dimensions_malformed"),
        (
            _body("matrix", cells=[{"values": ["eu", "x"], "unit_amount": "1"}]),
            "/cells/0/values matrix_values_mismatch",
        ),
        (
            _body("matrix", cells=[{"values": ["eu"], "unit_amount": "1"}] * 2),
            "/cells/1/values matrix_values_repeated",
        ),
        (_body("matrix", cells=[{"values": ["eu"], "unit_amount": "1"}] * 1001), "/cells too_many_cells"),
        (_body("per_unit", commitment={}), "/commitment commitment_ambiguous"),
        (_body("per_unit", commitment={"amount": "1", "quantity": "1"}), "/commitment commitment_ambiguous"),
        (_body("per_unit", commitment={"amount": "0"}), "/commitment/amount commitment_not_positive"),
        (
            _body("per_unit", commitment={"amount": "1", "overage_factor": "0.9"}),
            "/commitment/overage_factor overage_factor_below_one",
        ),
        (_body("per_unit", commitment=WINDOW), "/commitment/per commitment_window_unused"),
        (_body("per_unit", commitment={"amount": "1", "per": "term"}), "/commitment/term commitment_term_mismatch"),
        (
            _body("per_unit", commitment={"amount": "1", "per": "term", "term": {"unit": "year", "count": 0}}),
            "/commitment/term/count cadence_out_of_range",
        ),
        (
            _body("per_unit", commitment={"amount": "2"}, maximum_amount="1"),
            "/commitment/amount commitment_above_maximum",
        ),
        (_body("dynamic", commitment={"quantity": "1"}), "/commitment/quantity commitment_quantity_unused"),
        (
            _body("per_unit", bucket=HOURS, commitment={"quantity": "1"}),
            "/commitment/quantity commitment_quantity_unused",
        ),
        (
            _body("per_unit", bucket=HOURS | {"group_by": ["pod"]}, commitment={"quantity": "1", "per": "window"}),
            "/commitment/quantity commitment_quantity_unused",
        ),
        (_body("per_unit", bucket=HOURS | {"group_by": list("abcdefghi")}), "/bucket/group_by too_many_groups"),
        (_body("per_unit", bucket=HOURS | {"group_by": ["pod", "pod"]}), "/bucket/group_by dimension_repeated"),
        (
            _body("per_unit", bucket={"size": "day", "bands": [{"start": "00:00", "end": "06:00"}]}),
            "/bucket/bands bands_unused",
        ),
        (
            _body("per_unit", bucket=HOURS | {"bands": [{"start": "0:00", "end": "06:00"}]}),
            "/bucket/bands/0/start band_malformed",
        ),
        (
            _body("per_unit", bucket=HOURS | {"bands": [{"start": "06:00", "end": "06:00"}]}),
            "/bucket/bands/0/start band_malformed",
        ),
        (
            _body(
                "per_unit",
                bucket=HOURS | {"bands": [{"start": "22:00", "end": "06:00"}, {"start": "05:00", "end": "07:00"}]},
            ),
            "/bucket/bands/1/start bands_overlap",
        ),
        (
            _body(
                "per_unit",
                bucket=HOURS | {"bands": [{"start": "22:00", "end": "06:00", "commitment": {"amount": "1"}}]},
            ),
            "/bucket/bands/0/commitment/per bands_unused",
        ),
    ],
)
def test_terms_that_make_no_sense_are_refused(body: dict[str, Any], code: str) -> None:
    price = msgspec.convert(body, type=Price, strict=False)
    with pytest.raises(Invalid) as refused:
        validate_price(price)
    assert [f"{error.pointer} {error.code}" for error in refused.value.details] == [code]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"quantity": "5"}, "commitment_quantity_unused"),
        ({"amount": "5", "per": "window"}, "commitment_window_unused"),
        ({"amount": "5", "overage_factor": "0"}, "overage_factor_below_one"),
    ],
)
def test_a_subscription_commits_to_an_amount_of_a_period_or_a_term(body: dict[str, Any], code: str) -> None:
    check_subscription_commitment(Commitment(amount=D(5)))
    with pytest.raises(Invalid) as refused:
        check_subscription_commitment(msgspec.convert(body, type=Commitment, strict=False))
    assert refused.value.code == code
