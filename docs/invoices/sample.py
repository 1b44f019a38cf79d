"""The invoice of docs/invoices.md. `python -m docs.invoices.sample` writes sample.pdf and sample.png anew."""

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import msgspec
import typst

from documents import invoice_document, invoice_pdf
from domain.money import round_money, total
from domain.pricing import rate
from schemas.documents import ChargeRow, InvoiceDocument, InvoiceExtras, Party, Seller
from schemas.invoices import InvoiceLine, KeptInvoice
from schemas.prices import (
    FlatPrice,
    GraduatedPrice,
    PackagePrice,
    PerUnitPrice,
    PlanPrice,
    Price,
    RatedStep,
    Tier,
    VolumePrice,
)

HERE = Path(__file__).parent
TEMPLATE = HERE.parents[1] / "documents" / "templates" / "invoice.typ"
D = Decimal

CURRENCY = "EUR"
ZONE = "Europe/Berlin"
STARTS = datetime(2026, 9, 30, 22, tzinfo=UTC)
ENDS = datetime(2026, 10, 31, 23, tzinfo=UTC)
SELLER = Seller(
    name="Nordlicht Cloud GmbH",
    details=("Speicherstraße 14", "20457 Hamburg", "Germany", "VAT DE 301 554 871", "billing@nordlicht.example"),
    payment=(
        "Please transfer the amount due to IBAN DE02 1203 0000 0000 2020 51, BIC BYLADEM1001,",
        "with the invoice number as the reference.",
    ),
    footer="Nordlicht Cloud GmbH · Amtsgericht Hamburg HRB 154 881 · Managing directors: Ada Brandt, Łukasz Wójcik",
)
CUSTOMER = Party(
    name="Ångström & Fils S.A.",
    details=("12, rue de l'Étoile", "1011 Lausanne", "Switzerland", "VAT CHE-114.903.022"),
)


def _price(key: str, name: str, price: Price, meter_id: str | None = None) -> PlanPrice:
    return PlanPrice(id=f"pri_{key}", key=key, name=name, currency=CURRENCY, price=price, meter_id=meter_id)


CALL_TIERS = (
    Tier(up_to=D(100_000)),
    Tier(up_to=D(1_000_000), unit_amount=D("0.0004")),
    Tier(unit_amount=D("0.00025"), flat_amount=D(20)),
)
TRANSFER_TIERS = (Tier(up_to=D(1000), unit_amount=D("0.09")), Tier(unit_amount=D("0.07")))
SOLD = (
    (_price("platform", "Platform fee", FlatPrice(amount=D(249))), D(1)),
    (_price("seats", "Seats", PerUnitPrice(unit_amount=D("12.50"))), D(14)),
    (_price("calls", "API calls", GraduatedPrice(tiers=CALL_TIERS), "met_calls"), D(1_482_301)),
    (
        _price("storage", "Storage, GB-months", PerUnitPrice(unit_amount=D("0.021"), free_units=D(50)), "met_storage"),
        D("731.482913"),
    ),
    (_price("mails", "E-mails sent", PackagePrice(amount=D("0.80"), package_size=D(1000)), "met_mails"), D(40_211)),
    (_price("transfer", "Data transfer, GB", VolumePrice(tiers=TRANSFER_TIERS), "met_transfer"), D("1288.75")),
)


def sample_invoice() -> tuple[KeptInvoice, InvoiceExtras]:
    lines = (*(_line(price, quantity) for price, quantity in SOLD), _late_line())
    subtotal = total([line.amount for line in lines])
    discount = -round_money(subtotal * D("0.1"), CURRENCY)
    credit = D(-50)
    tax = round_money((subtotal + discount + credit) * D("0.19"), CURRENCY)
    amount = total([subtotal, discount, credit, tax])
    invoice = KeptInvoice(
        id="inv_0192f3c4",
        number="INV-2026-000217",
        customer_id="cus_0190aa11",
        subscription_id="sub_0190aa12",
        currency=CURRENCY,
        state="open",
        period_start=STARTS,
        period_end=ENDS,
        cut=20_461,
        lines=lines,
        subtotal=subtotal,
        total=amount,
        amount_due=amount,
        as_of=datetime(2026, 11, 1, 6, 0, 2, tzinfo=UTC),
        issued_at=datetime(2026, 11, 1, 6, 5, tzinfo=UTC),
    )
    extras = InvoiceExtras(
        charges=(
            ChargeRow(kind="discount", label="Loyalty discount, 10 %", amount=discount),
            ChargeRow(kind="credit", label="Prepaid credits", amount=credit),
            ChargeRow(kind="tax", label="VAT 19 %", amount=tax),
        ),
        due_at=datetime(2026, 11, 15, 12, tzinfo=UTC),
        notes=("The adjustment corrects September for events that arrived after its invoice.",),
    )
    return invoice, extras


def sample_document() -> InvoiceDocument:
    invoice, extras = sample_invoice()
    return invoice_document(
        invoice,
        seller=SELLER,
        customer=CUSTOMER,
        zone=ZONE,
        prices={price.id: price for price, _ in SOLD},
        plan="Scale, version 3",
        extras=extras,
    )


def _line(price: PlanPrice, quantity: Decimal) -> InvoiceLine:
    rated = rate(price.price, quantity, CURRENCY)
    return InvoiceLine(
        id=f"lin_{price.key}",
        kind="usage" if price.meter_id else "fee",
        price_id=price.id,
        price_key=price.key,
        description=price.name,
        meter_id=price.meter_id,
        quantity=quantity,
        period_start=STARTS,
        period_end=ENDS,
        exact_amount=rated.exact_amount,
        amount=rated.amount,
        steps=rated.steps,
    )


def _late_line() -> InvoiceLine:
    """Of the month before: 1,200 calls that came late, at the price of their tier."""
    fields: dict[str, object] = {
        "id": "lin_late",
        "kind": "adjustment",
        "price_id": "pri_calls",
        "price_key": "calls",
        "description": "API calls, late usage",
        "meter_id": "met_calls",
        "quantity": D(1200),
        "period_start": datetime(2026, 8, 31, 22, tzinfo=UTC),
        "period_end": STARTS,
        "exact_amount": D("0.48"),
        "amount": D("0.48"),
        "steps": (
            RatedStep(
                kind="tier_units",
                from_quantity=D(812_400),
                to_quantity=D(813_600),
                quantity=D(1200),
                unit_amount=D("0.0004"),
                amount=D("0.48"),
            ),
        ),
    }
    return InvoiceLine(**fields)  # type: ignore[arg-type]


def main() -> None:
    document = sample_document()
    (HERE / "sample.pdf").write_bytes(invoice_pdf(document))
    inputs = {"document": msgspec.json.encode(document).decode(), "boxes": "no"}
    fonts = typst.Fonts(include_system_fonts=False)
    pages = typst.compile(TEMPLATE.read_bytes(), font_paths=fonts, format="png", ppi=110, sys_inputs=inputs)
    (HERE / "sample.png").write_bytes(pages[0] if isinstance(pages, list) else pages)


if __name__ == "__main__":
    main()
