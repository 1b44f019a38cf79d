"""Adapters of `pricing.json`: each vocabulary's prices as ours."""

from decimal import Decimal
from typing import Any

from domain.money import minor_units, round_half_away, round_money
from domain.pricing import rate, validate_price
from schemas.prices import FlatPrice, GraduatedPrice, PackagePrice, PerUnitPrice, Price, RatedLine, Tier, VolumePrice
from tests.vectors.cases import Area, Case, dec


def rated(price: Price, quantity: str | Decimal, currency: str = "USD") -> RatedLine:
    validate_price(price)
    return rate(price, dec(str(quantity)), currency.upper())


def fp_price(price: dict[str, Any]) -> Price:
    if price["billing_model"] == "PACKAGE":
        return PackagePrice(amount=dec(price["amount"]), package_size=dec(price["divide_by"]), rounding=price["round"])
    assert price["tier_mode"] == "SLAB"
    tiers = tuple(
        Tier(
            up_to=None if tier["up_to"] is None else dec(tier["up_to"]),
            unit_amount=dec(tier["unit_amount"]),
            flat_amount=dec(tier.get("flat_amount")),
        )
        for tier in price["tiers"]
    )
    return GraduatedPrice(tiers=tiers)


def fp_pricing(case: Case) -> None:
    price = fp_price(case["inputs"]["price"])
    line = rated(price, case["inputs"]["quantity"], case["inputs"]["price"]["currency"])
    assert line.amount == dec(case["expected"]["amount"])
    index = case["expected"].get("selected_tier_index")
    if index is not None:
        assert isinstance(price, GraduatedPrice)
        assert line.steps[-1].unit_amount == price.tiers[index].unit_amount


def fp_currency_rounding(case: Case) -> None:
    currency = case["inputs"]["currency"].upper()
    assert round_money(dec(case["inputs"]["amount"]), currency) == dec(case["expected"]["rounded"])
    assert minor_units(currency) == case["expected"]["precision"]


def om_tiers(tiers: list[dict[str, Any]]) -> tuple[Tier, ...]:
    return tuple(
        Tier(
            up_to=None if tier["up_to"] is None else dec(tier["up_to"]),
            unit_amount=dec(tier["unit_price"]),
            flat_amount=dec(tier["flat_price"]),
        )
        for tier in tiers
    )


def om_price(price: dict[str, Any]) -> Price:
    match price["type"], price.get("mode"):
        case "flat", _:
            return FlatPrice(amount=dec(price["amount"]))
        case "unit", _:
            return PerUnitPrice(unit_amount=dec(price["amount"]))
        case "package", _:
            return PackagePrice(amount=dec(price["amount"]), package_size=dec(price["quantity_per_package"]))
        case "tiered", "graduated":
            return GraduatedPrice(tiers=om_tiers(price["tiers"]))
        case "tiered", "volume":
            return VolumePrice(tiers=om_tiers(price["tiers"]))
    raise AssertionError(price)


def om_later(case: Case) -> str | None:
    price = case["inputs"]["price"]
    if price["type"] == "dynamic":
        return "dynamic prices are not built yet"
    if price["minimum_amount"] is not None or price["maximum_amount"] is not None:
        return "minimum and maximum amounts are not built yet"
    if price.get("payment_term") == "in_advance":
        return "every price is billed in arrears yet"
    if "unit_config" in case["inputs"]:
        return "unit conversion is not built yet"
    if "credits_applied" in case["inputs"] or "options" in case["inputs"]:
        return "credits on a line are not built yet"
    return None


def om_rating(case: Case) -> None:
    """A line in the middle of a period is the cumulative rating at its end minus that at its start."""
    price, usage, mode = om_price(case["inputs"]["price"]), case["inputs"]["usage"], case["inputs"]["line_mode"]
    before = dec(usage["pre_line_period_qty"])
    after = before + dec(usage["line_period_qty"])
    expected = case["expected"]["lines"]
    total = sum((dec(line["totals"]["total"]) for line in expected), Decimal(0))
    if isinstance(price, FlatPrice | VolumePrice):
        # Billed once, with the whole quantity, on the last line of the period.
        ours = rated(price, after).amount if mode != "mid_period_split" else Decimal(0)
    elif before or mode != "single_per_period":
        ours = rated(price, after).amount - rated(price, before).amount
    else:
        line = rated(price, after)
        ours = line.amount
        assert [(step.unit_amount, step.quantity, step.amount) for step in line.steps if step.amount] == [
            (dec(row["per_unit_amount"]), dec(row["quantity"]), dec(row["totals"]["amount"]))
            for row in expected
            if dec(row["totals"]["amount"])
        ]
    assert ours == total


def om_delta_rating(case: Case) -> None:
    """What all phases book sums to the rating of the cumulative quantity."""
    price, booked = om_price(case["inputs"]["price"]), Decimal(0)
    for phase, expected in zip(case["inputs"]["phases"], case["expected"]["phases"], strict=True):
        booked += dec(expected["totals"]["total"])
        assert rated(price, phase["cumulative_metered_quantity"], case["inputs"]["currency"]).amount == booked


def om_graduated_total(case: Case) -> None:
    price = GraduatedPrice(tiers=om_tiers(case["inputs"]["tiers"]))
    assert rated(price, case["inputs"]["quantity"]).amount == dec(case["expected"]["total"])


def om_volume_find_tier(case: Case) -> None:
    tiers = om_tiers(case["inputs"]["tiers"])
    expected = tiers[case["expected"]["tier_index"]]
    quantity = dec(case["inputs"]["quantity"])
    line = rated(VolumePrice(tiers=tiers), quantity)
    assert line.exact_amount == quantity * expected.unit_amount + expected.flat_amount


def om_package_count(case: Case) -> None:
    price = PackagePrice(amount=Decimal(1), package_size=dec(case["inputs"]["package_size"]))
    assert rated(price, case["inputs"]["quantity"]).steps[-1].quantity == dec(case["expected"]["packages"])


def lago_tiers(ranges: list[dict[str, Any]]) -> tuple[Tier, ...]:
    return tuple(
        Tier(
            up_to=None if tier["to_value"] is None else dec(tier["to_value"]),
            unit_amount=dec(tier["per_unit_amount"]),
            flat_amount=dec(tier["flat_amount"]),
        )
        for tier in ranges
    )


def lago_price(model: str, properties: dict[str, Any]) -> Price:
    match model:
        case "graduated":
            return GraduatedPrice(tiers=lago_tiers(properties["graduated_ranges"]))
        case "volume":
            return VolumePrice(tiers=lago_tiers(properties["volume_ranges"]))
        case "standard":
            return PerUnitPrice(unit_amount=dec(properties["amount"]))
        case "package":
            return PackagePrice(
                amount=dec(properties["amount"]),
                package_size=dec(properties["package_size"]),
                free_units=dec(properties["free_units"]),
            )
    raise AssertionError(model)


def lago_later(case: Case) -> str | None:
    model = case["inputs"]["charge_model"]
    if model in {"percentage", "graduated_percentage"}:
        return "percentage prices are not built yet"
    if model == "prorated_graduated" or case["inputs"].get("prorated"):
        return "units weighed by time are not built yet"
    return None


def lago_charge_model(case: Case) -> None:
    inputs, expected = case["inputs"], case["expected"]
    line = rated(lago_price(inputs["charge_model"], inputs["properties"]), inputs["aggregation"])
    units = dec(inputs.get("full_units_number", inputs["aggregation"]))
    if "amount" in expected:
        assert line.exact_amount == dec(expected["amount"])
    if "unit_amount" in expected and units:
        assert line.exact_amount / units == dec(expected["unit_amount"])
    if "unit_amount_rounded" in expected:
        scale = expected["unit_amount_rounded"]["scale"]
        assert round_half_away(line.exact_amount / units, scale) == dec(expected["unit_amount_rounded"]["value"])
    if "ranges" in expected:
        by_tier = [step.amount for step in line.steps if step.kind == "tier_units"]
        wanted = [dec(row["per_unit_total_amount"]) for row in expected["ranges"] if dec(row["units"])]
        assert by_tier == wanted


def lago_price_estimate(case: Case) -> None:
    """Only the charge: the sum there adds major units to cents (see the README of the cases)."""
    price = lago_price(case["inputs"]["charge_model"], case["inputs"]["properties"])
    assert rated(price, case["inputs"]["units"]).amount == dec(case["expected"]["charge_amount"])


AREAS = {
    "fp_pricing": Area(fp_pricing),
    "fp_currency_rounding": Area(fp_currency_rounding),
    "om_rating": Area(om_rating, om_later),
    "om_delta_rating": Area(om_delta_rating, om_later),
    "om_graduated_total": Area(om_graduated_total),
    "om_volume_find_tier": Area(om_volume_find_tier),
    "om_package_count": Area(om_package_count),
    "lago_charge_model": Area(lago_charge_model, lago_later),
    "lago_price_estimate": Area(
        lago_price_estimate,
        differs=lambda _case: "the sum there adds major units to cents: only the charge is asserted",
    ),
}
LATER = {
    "fp_pricing_bucketed": "bucketed prices are not built yet",
    "fp_time_of_day_bucket": "buckets by time of day are not built yet",
    "fp_commitment_windowed": "commitments are not built yet",
    "fp_commitment_time_of_day": "commitments are not built yet",
    "fp_commitment_cumulative": "commitments are not built yet",
    "fp_commitment_line_item": "commitments are not built yet",
    "lago_commitment_proration": "commitments are not built yet",
    "lago_charge_minimum_true_up": "minimum amounts are not built yet",
    "om_unit_config": "unit conversion is not built yet",
    "om_usage_discount": "free units over split lines are not built yet",
    "lago_coupon": "coupons are not built yet",
    "fp_coupon_rounding": "coupons are not built yet",
    "fp_tax_rounding": "taxes are not built yet",
}
