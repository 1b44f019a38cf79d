"""One step of a rating in words and figures."""

from decimal import Decimal

from documents import texts
from domain.money import EXACT
from domain.pricing.steps import ADJUSTMENTS
from schemas.documents import DocumentStep
from schemas.prices import RatedStep

# Kinds that are not named here are shown by their own names: a new one must not stop an invoice.
_STEPS = {
    "conversion": "Converted units",
    "flat": "Flat price",
    "units": "Units",
    "free_units": "Included units",
    "packages": "Packages",
    "tier_units": "per unit",
    "tier_flat": "flat price",
    "rate": "Share of the amount",
    "event_fixed": "Fixed amount per event",
    "event_minimum": "Minimum per event",
    "event_maximum": "Maximum per event",
    "multiplied": "Amount of the events",
    "floor": "Not below zero",
    "overage": "Overage beyond the commitment",
    "rounding": "Rounding",
    "discount": "Discount",
    "maximum": "Maximum",
    "commitment": "Up to the commitment",
    "minimum": "Up to the minimum",
    "carried": "Rounded before",
    "proration": "Outside the billed part of the period",
}
_SHARES = frozenset({"rate"})
_TIERED = frozenset({"tier_units", "tier_flat"})


def document_step(step: RatedStep, currency: str) -> DocumentStep:
    """An adjustment has an amount only; the price of a share is a percentage of it."""
    label, amount = _label(step), texts.money(step.amount, currency).text
    if step.kind in ADJUSTMENTS:
        return DocumentStep(label=label, units="", quantity="", unit_amount="", amount=amount)
    return DocumentStep(
        label=label,
        units="" if step.kind == "flat" else _units(step.from_quantity, step.to_quantity),
        quantity=texts.quantity(step.quantity).text,
        unit_amount=_unit_amount(step, currency),
        amount=amount,
    )


def step_sentence(step: RatedStep, currency: str) -> str:
    """The step on one line: what it is, which units, and quantity times unit amount."""
    shown = document_step(step, currency)
    if not shown.quantity:
        return f"{shown.label}: {shown.amount}"
    units = f" ({shown.units})" if shown.units else ""
    return f"{shown.label}{units}: {shown.quantity} \N{MULTIPLICATION SIGN} {shown.unit_amount} = {shown.amount}"


def _label(step: RatedStep) -> str:
    """What it is, of which tier, and which values, hours or discount it is for: `Units, region=eu`."""
    kind = _STEPS.get(step.kind, in_words(step.kind))
    if step.kind == "discount" and step.label:  # its label begins with its place: `1: Loyalty`
        return f"{kind} {texts.clean(step.label).replace(': ', ', ', 1)}"
    tier = "Tier" if step.tier is None else f"Tier {step.tier}"
    named = [tier, kind[:1].lower() + kind[1:]] if step.tier is not None or step.kind in _TIERED else [kind]
    return ", ".join([*named, texts.clean(step.label)] if step.label else named)


def _unit_amount(step: RatedStep, currency: str) -> str:
    if step.kind in _SHARES:
        return f"{texts.quantity(step.unit_amount.scaleb(2, EXACT)).text}\N{NO-BREAK SPACE}%"
    return texts.money(step.unit_amount, currency).text


def in_words(kind: str) -> str:
    """A kind as a label: `tier_flat` is `Tier flat`."""
    return kind.replace("_", " ").capitalize()


def _units(above: Decimal, to: Decimal) -> str:
    """`(above, to]`, as quantities may be fractions."""
    if to <= above:
        return ""
    upper = texts.quantity(to).text
    return f"over {texts.quantity(above).text} to {upper}" if above else f"first {upper}"
