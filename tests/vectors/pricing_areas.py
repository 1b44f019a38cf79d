"""Adapters of `pricing.json`: each vocabulary's prices as ours."""

from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

from domain.money import minor_units, round_half_away, round_money, total
from domain.pricing import rate, rate_lines, rerate, validate_price
from domain.pricing.bands import contains
from domain.pricing.commitments import commit_lines
from domain.pricing.units import convert
from domain.proration import prorate, share
from schemas.periods import Cadence
from schemas.price_terms import Bucketing, Commitment, PricingUnit, TimeBand, UnitConversion
from schemas.priced_usage import BucketUsage, PricedUsage, TermProgress, WeighedChange
from schemas.prices import (
    CommitmentUse,
    DynamicPrice,
    FlatPrice,
    GraduatedPercentagePrice,
    GraduatedPrice,
    PackagePrice,
    PercentagePrice,
    PerUnitPrice,
    Price,
    RatedLine,
    RateTier,
    Tier,
    VolumePrice,
)
from tests.vectors.cases import Area, Case, dec, instant

DAY = datetime(2026, 1, 1, tzinfo=UTC)


def rated(price: Price, usage: str | float | Decimal | PricedUsage, currency: str = "USD") -> RatedLine:
    validate_price(price)
    return rate(price, usage if isinstance(usage, PricedUsage) else dec(str(usage)), currency.upper())


def billed(lines: tuple[RatedLine, ...]) -> Decimal:
    return total([line.amount for line in lines])


def hours(*quantities: Decimal) -> PricedUsage:
    """One bucket an hour from midnight on."""
    return PricedUsage(
        buckets=tuple(
            BucketUsage(at=DAY + timedelta(hours=hour), quantity=each) for hour, each in enumerate(quantities)
        )
    )


def fp_price(price: dict[str, Any], bucket: Bucketing | None = None) -> Price:
    if price["billing_model"] == "PACKAGE":
        return PackagePrice(
            amount=dec(price["amount"]),
            package_size=dec(price["divide_by"]),
            rounding=price["round"],
            bucket=bucket,
        )
    if price["billing_model"] == "FLAT_FEE":  # of each unit
        return PerUnitPrice(unit_amount=dec(price["amount"]), bucket=bucket)
    tiers = tuple(
        Tier(
            up_to=None if tier["up_to"] is None else dec(tier["up_to"]),
            unit_amount=dec(tier["unit_amount"]),
            flat_amount=dec(tier.get("flat_amount")),
        )
        for tier in price["tiers"]
    )
    if price["tier_mode"] == "VOLUME":
        return VolumePrice(tiers=tiers, bucket=bucket)
    assert price["tier_mode"] == "SLAB"
    return GraduatedPrice(tiers=tiers, bucket=bucket)


def fp_pricing(case: Case) -> None:
    price = fp_price(case["inputs"]["price"])
    line = rated(price, case["inputs"]["quantity"], case["inputs"]["price"]["currency"])
    assert line.amount == dec(case["expected"]["amount"])
    index = case["expected"].get("selected_tier_index")
    if index is not None:
        assert isinstance(price, GraduatedPrice)
        assert line.steps[-1].unit_amount == price.tiers[index].unit_amount


def fp_pricing_bucketed(case: Case) -> None:
    """The values are buckets of time, or groups within one: either is priced for itself."""
    values = [dec(value) for value in case["inputs"]["bucket_values"]]
    groups = tuple(BucketUsage(at=DAY, quantity=value, group=(str(n),)) for n, value in enumerate(values))
    price = fp_price(case["inputs"]["price"], Bucketing(size="hour", group_by=("instance",)))
    for usage in (hours(*values), PricedUsage(buckets=groups)):
        line = rated(price, usage, case["inputs"]["price"]["currency"])
        assert line.amount == dec(case["expected"]["amount"])
        assert line.quantity == dec(case["expected"].get("line_quantity", line.quantity))


def fp_time_of_day_bucket(case: Case) -> None:
    start, end = (time.fromisoformat(text) for text in case["inputs"]["bucket"])
    assert contains(start, end, time.fromisoformat(case["inputs"]["time_utc"])) is case["expected"]["contains"]


def fp_commitment_windowed(case: Case) -> None:
    inputs = case["inputs"]
    price = PerUnitPrice(
        unit_amount=dec(inputs["unit_price"]),
        bucket=Bucketing(size="hour"),
        commitment=Commitment(
            amount=dec(inputs["commitment_amount"]),
            per="window",
            true_up=inputs["true_up"],
            overage_factor=dec(inputs["overage_factor"]),
        ),
    )
    validate_price(price)
    lines = rate_lines(price, hours(*map(dec, inputs["window_values"])), "USD")
    assert billed(lines) == dec(case["expected"]["total"])


def fp_commitment_time_of_day(case: Case) -> None:
    inputs, expected = case["inputs"], case["expected"]
    band = inputs["bucket"]
    quantity, amount = band.get("commitment_quantity"), band.get("commitment_amount")
    commitment = Commitment(
        quantity=None if quantity is None else dec(quantity),
        amount=None if amount is None else dec(amount),
        per="window",
        overage_factor=dec(band["overage_factor"]),
    )
    hours_of_day = TimeBand(
        start=band["start"], end=band["end"], unit_amount=dec(band["unit_price"]), commitment=commitment
    )
    price = PerUnitPrice(
        unit_amount=dec(inputs["line"]["unit_price"]), bucket=Bucketing(size="hour", bands=(hours_of_day,))
    )
    validate_price(price)
    at = {text: DAY + timedelta(hours=time.fromisoformat(text).hour) for text in inputs["usage"]}
    usage = PricedUsage(
        buckets=tuple(BucketUsage(at=at[text], quantity=dec(value)) for text, value in inputs["usage"].items())
    )
    lines = rate_lines(price, usage, "USD")
    use = lines[0].commitment
    assert use is not None
    assert (billed(lines), use.utilized, use.overage, use.true_up) == tuple(
        dec(expected[name]) for name in ("total", "utilized", "overage", "true_up")
    )


def fp_commitment_cumulative(case: Case) -> None:
    inputs, expected = case["inputs"], case["expected"]
    commitment = Commitment(
        amount=dec(inputs["commitment"]),
        per="term",
        term=Cadence(unit={"ANNUAL": "year"}[inputs["commitment_duration"]]),  # type: ignore[arg-type]
        overage_factor=dec(inputs["overage_factor"]),
    )
    price = PerUnitPrice(unit_amount=Decimal(1), commitment=commitment)
    validate_price(price)
    before = TermProgress(amount=total([dec(amount) for amount in inputs["prior_base_usage"]]))
    (line,) = rate_lines(price, dec(inputs["current_base_usage"]), "USD", term=before)
    assert line.commitment is not None
    assert (line.amount, line.commitment.overage) == (dec(expected["total"]), dec(expected["overage_line"]))


def fp_commitment_line_item(case: Case) -> None:
    """What is charged as overage already does not count towards a commitment, and is not charged again."""
    inputs = case["inputs"]
    charges = tuple(charge(dec(each["amount"]), overage=each["overage"]) for each in inputs["charges"])
    commitment = Commitment(
        amount=dec(inputs["line_commitment"]),
        true_up=inputs["true_up"],
        overage_factor=dec(inputs["overage_factor"]),
    )
    added = commit_lines(commitment, charges, "USD")
    assert billed(charges) + billed(added) == dec(case["expected"]["total"])


def charge(amount: Decimal, *, overage: bool) -> RatedLine:
    beyond = amount if overage else Decimal(0)
    use = CommitmentUse(base=amount, utilized=amount - beyond, overage=beyond, true_up=Decimal(0))
    return RatedLine(quantity=Decimal(1), currency="USD", exact_amount=amount, amount=amount, steps=(), commitment=use)


def lago_commitment_proration(case: Case) -> None:
    """Ends are inclusive there, on the last second or the last day: half-open ones lie one further."""
    inputs, expected = case["inputs"], case["expected"]
    whole = instant(inputs["period_from"]), instant(inputs["period_to"]) + timedelta(days=1)
    part = instant(inputs["from_datetime"]), instant(inputs["to_datetime"]) + timedelta(seconds=1)
    share_of_whole = share(*whole, *part)
    if "coefficient" in expected:
        assert share_of_whole == Fraction(expected["coefficient"])
    if "commitment_amount_cents" in expected:
        amount, wanted = dec(inputs["commitment_amount_cents"]) / 100, dec(expected["commitment_amount_cents"]) / 100
        assert prorate(amount, sorted({*whole, *part}), "USD")[0] == wanted
        price = PerUnitPrice(unit_amount=Decimal(1), commitment=Commitment(amount=amount, true_up=True))
        assert billed(rate_lines(price, Decimal(0), "USD", part=share_of_whole)) == wanted


def lago_charge_minimum_true_up(case: Case) -> None:
    inputs, expected = case["inputs"], case["expected"]
    unit = inputs.get("pricing_unit_conversion_rate")
    price = PerUnitPrice(
        unit_amount=Decimal("0.01"),
        minimum_amount=dec(inputs["min_amount_cents"]) / 100,
        pricing_unit=None if unit is None else PricingUnit(code="credits", rate=dec(unit)),
    )
    validate_price(price)
    part = Fraction(inputs["proration"])
    _, *true_up = rate_lines(price, dec(inputs["used_amount_cents"]), "USD", part=part)
    assert billed(tuple(true_up)) == dec(expected["true_up_amount_cents"]) / 100


def om_unit_config(case: Case) -> None:
    inputs, expected = case["inputs"], case["expected"]
    conversion = om_conversion(inputs)
    for name in ("quantity", "pre_line_period_quantity"):
        assert convert(conversion, dec(inputs[name])) == dec(expected[name])


def om_usage_discount(case: Case) -> None:
    inputs, expected = case["inputs"], case["expected"]
    price = PerUnitPrice(unit_amount=Decimal(1), free_units=dec(inputs["discount_quantity"]))
    before = dec(inputs["pre_line_period_quantity"])
    lines = rate_lines(price, before + dec(inputs["quantity"]), "USD", before=before)
    free, priced = ([step.quantity for step in lines[0].steps if step.kind == kind] for kind in ("free_units", "units"))
    assert sum(priced) == dec(expected["quantity"])
    assert sum(free) == dec(expected["line_discount_quantity"])
    earlier = rated(price, before).steps
    assert earlier[-1].quantity == dec(expected["pre_line_period_quantity"])
    if expected["line_discount_pre_period_quantity"] is not None:
        assert earlier[0].quantity == dec(expected["line_discount_pre_period_quantity"])


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


def om_conversion(config: dict[str, Any]) -> UnitConversion:
    rounding = {"ceiling": "up", "floor": "down", "halfup": "half_up", "none": "none"}[config["rounding"]]
    return UnitConversion(
        operation=config["operation"],
        factor=dec(config["conversion_factor"]),
        rounding=rounding,  # type: ignore[arg-type]
    )


def om_price(inputs: dict[str, Any]) -> Price:
    price = inputs["price"]
    limits: dict[str, Any] = {
        f"{name}_amount": dec(price[f"{name}_amount"])
        for name in ("minimum", "maximum")
        if price[f"{name}_amount"] is not None
    }
    of_quantity = dict(limits)
    if "unit_config" in inputs:
        of_quantity["conversion"] = om_conversion(inputs["unit_config"])
    if "rate_card_discounts" in inputs:
        of_quantity["free_units"] = dec(inputs["rate_card_discounts"]["usage_quantity"])
    match price["type"], price.get("mode"):
        case "flat", _:
            return FlatPrice(amount=dec(price["amount"]), **limits)
        case "dynamic", _:
            return DynamicPrice(multiplier=dec(price["multiplier"]), **limits)
        case "unit", _:
            return PerUnitPrice(unit_amount=dec(price["amount"]), **of_quantity)
        case "package", _:
            size = dec(price["quantity_per_package"])
            return PackagePrice(amount=dec(price["amount"]), package_size=size, **of_quantity)
        case "tiered", "graduated":
            return GraduatedPrice(tiers=om_tiers(price["tiers"]), **of_quantity)
        case "tiered", "volume":
            return VolumePrice(tiers=om_tiers(price["tiers"]), **of_quantity)
    raise AssertionError(price)


def om_rating(case: Case) -> None:
    """A line in the middle of a period is the cumulative rating at its end minus that at its start."""
    inputs = case["inputs"]
    price, usage, mode = om_price(inputs), inputs["usage"], inputs["line_mode"]
    validate_price(price)
    before = dec(usage["pre_line_period_qty"])
    after = before + dec(usage["line_period_qty"])
    line, *true_ups = rate_lines(
        price,
        after,
        inputs["currency"],
        before=None if mode == "single_per_period" and not before else before,
        last=mode != "mid_period_split",
    )
    if "WithMinimumCommitmentIgnored" in inputs.get("options", ()):
        true_ups = []
    if splits_conversion(case):
        # 2,700 units are 3 of 1,000 begun, 1,400 are 2: one is left for the line, not 2 again.
        assert line.amount == Decimal(10)
        return
    regular = [row for row in case["expected"]["lines"] if row["category"] == "regular"]
    fills = [row for row in case["expected"]["lines"] if row["category"] == "commitment"]
    currency = inputs["currency"]
    assert line.amount == total([dec(row["totals"]["total"]) for row in regular])
    assert [true_up.amount for true_up in true_ups] == [dec(row["totals"]["total"]) for row in fills]
    taken_off = total([step.amount for step in line.steps if step.kind == "maximum"])
    assert round_money(-taken_off, currency) == total([dec(row["totals"]["discounts_total"]) for row in regular])
    priced = [step for step in line.steps if step.kind not in {"maximum", "carried"} and step.amount]
    assert [round_money(step.amount, currency) for step in priced] == [
        dec(row["totals"]["amount"]) for row in regular if dec(row["totals"]["amount"])
    ]
    if not isinstance(price, DynamicPrice):  # its one unit there is the whole amount
        assert [(step.unit_amount, step.quantity) for step in priced] == [
            (dec(row["per_unit_amount"]), dec(row["quantity"])) for row in regular if dec(row["totals"]["amount"])
        ]


def splits_conversion(case: Case) -> str | None:
    if "unit_config" in case["inputs"] and dec(case["inputs"]["usage"]["pre_line_period_qty"]):
        return "a line split at any point re-rates to the same total: what is converted is the period up to its end"
    return None


def om_delta_rating(case: Case) -> None:
    """What each phase books is the rating of the cumulative quantity minus that of the phase before."""
    price, currency = om_price(case["inputs"]), case["inputs"]["currency"]
    validate_price(price)
    booked: Decimal | None = None
    for phase, expected in zip(case["inputs"]["phases"], case["expected"]["phases"], strict=True):
        now = dec(phase["cumulative_metered_quantity"])
        (line,) = (rate(price, now, currency),) if booked is None else rerate(price, now, booked, currency)
        booked = now
        assert line.amount == dec(expected["totals"]["total"])
        if isinstance(price, DynamicPrice) or not expected["lines"]:
            continue  # there an amount is reversed whole and booked anew, and amounts below a cent are no line
        assert sorted((step.unit_amount, step.quantity) for step in line.steps if step.kind != "carried") == sorted(
            (dec(row["per_unit_amount"]), dec(row["quantity"])) for row in expected["lines"]
        )


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
        case "percentage":
            return lago_percentage(properties)
        case "graduated_percentage":
            return lago_graduated_percentage(properties)
        case "graduated" | "prorated_graduated":
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


def lago_graduated_percentage(properties: dict[str, Any]) -> GraduatedPercentagePrice:
    tiers = (
        RateTier(
            up_to=None if each["to_value"] is None else dec(each["to_value"]),
            rate_percent=dec(each["rate"]),
            flat_amount=dec(each["flat_amount"]),
        )
        for each in properties["graduated_percentage_ranges"]
    )
    return GraduatedPercentagePrice(tiers=tuple(tiers))


def lago_percentage(properties: dict[str, Any]) -> PercentagePrice:
    optional = {
        "free_amount": properties["free_units_per_total_aggregation"],
        "event_minimum": properties["per_transaction_min_amount"],
        "event_maximum": properties["per_transaction_max_amount"],
    }
    of_events: dict[str, Any] = {name: dec(value) for name, value in optional.items() if value is not None}
    return PercentagePrice(
        rate_percent=dec(properties["rate"]),
        fixed_amount=dec(properties["fixed_amount"]),
        free_events=properties["free_units_per_events"],
        **of_events,
    )


def lago_usage(inputs: dict[str, Any]) -> PricedUsage:
    """`running_total` is the amount up to each of the first events; those after them share the rest."""
    quantity = dec(inputs["aggregation"])
    if inputs["charge_model"] == "percentage" and inputs["per_event_values"]:
        return PricedUsage(event_amounts=tuple(dec(value) for value in inputs["per_event_values"]))
    if inputs["charge_model"] == "percentage" and inputs["running_total"]:
        running = [dec(value) for value in inputs["running_total"]]
        amounts = [after - before for before, after in zip([Decimal(0), *running], running, strict=False)]
        rest = [quantity - running[-1]] + [Decimal(0)] * (inputs["events_count"] - len(amounts) - 1)
        return PricedUsage(event_amounts=tuple(amounts + rest))
    if "event_prorated_aggregation" in inputs:
        pairs = zip(inputs["event_aggregation"], inputs["event_prorated_aggregation"], strict=True)
        return PricedUsage(
            changes=tuple(WeighedChange(units=dec(units), weighed=dec(weight)) for units, weight in pairs)
        )
    if inputs.get("prorated"):
        return PricedUsage(changes=(WeighedChange(units=dec(inputs["full_units_number"]), weighed=quantity),))
    return PricedUsage(quantity=quantity, events=inputs.get("events_count"))


def licensed(case: Case) -> str | None:
    if case["inputs"].get("premium") is False and case["inputs"]["properties"]["per_transaction_min_amount"]:
        return "limits per event hold for everyone: no licence turns them off"
    return None


def lago_charge_model(case: Case) -> None:
    inputs, expected = case["inputs"], case["expected"]
    line = rated(lago_price(inputs["charge_model"], inputs["properties"]), lago_usage(inputs))
    if licensed(case):
        assert line.exact_amount == dec("1.75") + dec("2.392") + dec("12")
        return
    by_kind = {
        kind: [step for step in line.steps if step.kind == kind] for kind in ("free_units", "rate", "event_fixed")
    }
    units = dec(inputs.get("full_units_number", inputs["aggregation"]))
    for name, scale, wanted in rounded_amounts(expected):
        if name == "amount":
            assert round_half_away(line.exact_amount, scale) == wanted
        elif units > 0:  # of no units it is said to be 0 there
            assert round_half_away(Fraction(line.exact_amount) / Fraction(units), scale) == wanted
    if "ranges" in expected:
        by_tier = [step.amount for step in line.steps if step.kind == "tier_units"]
        wanted_by_tier = [dec(row["per_unit_total_amount"]) for row in expected["ranges"] if dec(row["units"])]
        assert by_tier == wanted_by_tier
    of_step = {
        "free_units": sum(step.quantity for step in by_kind["free_units"]),
        "paid_units": sum(step.quantity for step in by_kind["rate"]),
        "per_unit_total_amount": sum(step.amount for step in by_kind["rate"]),
    }
    if any(step.unit_amount for step in by_kind["event_fixed"]):
        paid = sum(step.quantity for step in by_kind["event_fixed"])
        of_step |= {
            "paid_events": paid,
            "free_events": inputs["events_count"] - paid,
            "fixed_fee_total_amount": sum(step.amount for step in by_kind["event_fixed"]),
        }
    for name in of_step.keys() & expected.keys():
        assert of_step[name] == dec(expected[name]), name


def rounded_amounts(expected: dict[str, Any]) -> list[tuple[str, int, Decimal]]:
    """Name, digits and value of each amount; one that is not rounded is compared far beyond its digits."""
    exact = [(name, 20, dec(expected[name])) for name in ("amount", "unit_amount") if name in expected]
    rounded = [
        (name, expected[f"{name}_rounded"]["scale"], dec(expected[f"{name}_rounded"]["value"]))
        for name in ("amount", "unit_amount")
        if f"{name}_rounded" in expected
    ]
    return exact + rounded


def lago_price_estimate(case: Case) -> None:
    """Only the charge: the sum there adds major units to cents (see the README of the cases)."""
    price = lago_price(case["inputs"]["charge_model"], case["inputs"]["properties"])
    assert rated(price, case["inputs"]["units"]).amount == dec(case["expected"]["charge_amount"])


AREAS = {
    "fp_pricing": Area(fp_pricing),
    "fp_pricing_bucketed": Area(fp_pricing_bucketed),
    "fp_currency_rounding": Area(fp_currency_rounding),
    "fp_time_of_day_bucket": Area(fp_time_of_day_bucket),
    "fp_commitment_windowed": Area(fp_commitment_windowed),
    "fp_commitment_time_of_day": Area(fp_commitment_time_of_day),
    "fp_commitment_cumulative": Area(fp_commitment_cumulative),
    "fp_commitment_line_item": Area(fp_commitment_line_item),
    "om_rating": Area(om_rating, differs=splits_conversion),
    "om_delta_rating": Area(om_delta_rating),
    "om_graduated_total": Area(om_graduated_total),
    "om_volume_find_tier": Area(om_volume_find_tier),
    "om_package_count": Area(om_package_count),
    "om_unit_config": Area(om_unit_config),
    "om_usage_discount": Area(om_usage_discount),
    "lago_charge_model": Area(lago_charge_model, differs=licensed),
    "lago_commitment_proration": Area(lago_commitment_proration),
    "lago_charge_minimum_true_up": Area(lago_charge_minimum_true_up),
    "lago_price_estimate": Area(
        lago_price_estimate,
        differs=lambda _case: "the sum there adds major units to cents: only the charge is asserted",
    ),
}
LATER = {
    "lago_coupon": "coupons are not built yet",
    "fp_coupon_rounding": "coupons are not built yet",
    "fp_tax_rounding": "taxes are not built yet",
}
