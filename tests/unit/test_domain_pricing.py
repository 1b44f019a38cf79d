from decimal import Decimal

import msgspec
import pytest

from domain.errors import Invalid
from domain.pricing import rate, validate_price
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
