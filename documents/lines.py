"""One line of an invoice, and the steps of its rating, in words and figures."""

from decimal import Decimal

from documents import texts
from documents.steps import document_step, in_words
from domain.errors import Invalid
from domain.money import EXACT, ZERO, round_money, total
from schemas.documents import DocumentLine, Shown
from schemas.invoices import InvoiceLine
from schemas.prices import PackagePrice, PlanPrice

_TAGS = {"fee": "", "usage": "", "true_up": "True-up"}
_MODELS = {"flat": "flat price", "per_unit": "per unit", "graduated": "graduated tiers", "volume": "volume tiers"}
_SINGLE = ("flat", "units", "packages", "tier_units")


def document_line(position: int, line: InvoiceLine, price: PlanPrice | None, currency: str, zone: str) -> DocumentLine:
    """Raises Invalid `amounts_disagree` where the steps do not sum to the line's exact amount."""
    _check_steps(line)
    rounding = EXACT.subtract(line.amount, line.exact_amount)
    unit_price = _unit_price(line, price, currency)
    return DocumentLine(
        position=str(position),
        id=line.id,
        kind=line.kind,
        tag=_TAGS.get(line.kind, in_words(line.kind)),
        description=texts.clean(line.description),
        price_key=texts.clean(line.price_key),
        pricing="" if price is None else _pricing(price),
        period=texts.period(line.period_start, line.period_end, zone),
        period_start=texts.instant_of(line.period_start, zone),
        period_end=texts.instant_of(line.period_end, zone),
        quantity=texts.quantity(line.quantity),
        unit_price=unit_price,
        exact_amount=texts.money(line.exact_amount, currency),
        amount=texts.money(line.amount, currency),
        steps=tuple(document_step(step, currency) for step in line.steps),
        rounding=texts.money(rounding, currency).text if rounding else "",
        detailed=bool(line.steps) and not _is_product(line, unit_price, currency),
    )


def _check_steps(line: InvoiceLine) -> None:
    """Raises Invalid `amounts_disagree`. A line without steps has nothing to disagree with."""
    if line.steps and total([step.amount for step in line.steps]) != line.exact_amount:
        raise Invalid("amounts_disagree", f"the steps of invoice line {line.id} do not sum to its exact amount")


def _is_product(line: InvoiceLine, unit_price: Shown, currency: str) -> bool:
    """Quantity times unit price, rounded, is the amount: there is nothing more to tell."""
    if not unit_price.plain:
        return False
    return round_money(EXACT.multiply(line.quantity, Decimal(unit_price.plain)), currency) == line.amount


def _pricing(price: PlanPrice) -> str:
    if isinstance(price.price, PackagePrice):
        return f"packages of {texts.quantity(price.price.package_size).text}"
    model = str(price.price.__struct_config__.tag)
    return _MODELS.get(model, model.replace("_", " "))


def _unit_price(line: InvoiceLine, price: PlanPrice | None, currency: str) -> Shown:
    """Of the only step that costs anything; nothing where several made the amount or the step's unit is not the line's."""
    costing = [step for step in line.steps if step.kind != "free_units"]
    if len(costing) != 1 or costing[0].kind not in _SINGLE:
        return texts.NOTHING
    [step] = costing
    shown = texts.money(step.unit_amount, currency)
    if step.kind == "packages":
        if price is None or not isinstance(price.price, PackagePrice):
            return texts.NOTHING
        size = texts.quantity(price.price.package_size)
        return Shown(plain="", text=f"{shown.text} / {size.text}")
    if step.kind == "flat" and line.quantity not in (ZERO, Decimal(1)):
        return texts.NOTHING
    return shown
