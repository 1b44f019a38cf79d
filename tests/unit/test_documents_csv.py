import csv
import io
from decimal import Decimal

import pytest

from docs.invoices.sample import sample_document, sample_invoice
from documents import invoice_csv
from schemas.documents import InvoiceDocument, Party
from tests.support.invoice_documents import document, invoice, lump


def rows(shown: InvoiceDocument) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(invoice_csv(shown).decode(), newline="")))


def test_the_amounts_sum_to_the_total_of_the_invoice() -> None:
    kept, _ = sample_invoice()
    found = rows(sample_document())
    assert sum(Decimal(row["amount"]) for row in found) == kept.total
    assert sum(Decimal(row["amount"]) for row in found if row["line"]) == kept.subtotal
    assert [row["kind"] for row in found if not row["line"]] == ["discount", "credit", "tax"]


def test_numbers_are_plain_and_instants_carry_their_offset() -> None:
    row = rows(sample_document())[2]
    assert {name: row[name] for name in ("quantity", "unit_price", "exact_amount", "amount", "currency")} == {
        "quantity": "1482301",
        "unit_price": "",
        "exact_amount": "500.57525",
        "amount": "500.58",
        "currency": "EUR",
    }
    assert (row["period_start"], row["period_end"]) == ("2026-10-01T00:00:00+02:00", "2026-11-01T00:00:00+01:00")


def test_quotes_commas_and_line_ends_follow_rfc_4180() -> None:
    made = invoice_csv(document([lump("1.00", description='Calls, "fast"')])).decode()
    assert made.endswith("\r\n")
    assert made.count("\r\n") == made.count("\n") == 2
    assert '"Calls, ""fast"""' in made


@pytest.mark.parametrize("formula", ["=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(A1)", "\t=1", " =1", "＝1", "\r=1"])
def test_what_a_spreadsheet_would_calculate_is_text(formula: str) -> None:
    shown = document(
        invoice([lump("1.00", description=formula, price_key=formula)], number=formula), customer=Party(name=formula)
    )
    [row] = rows(shown)
    for column in ("description", "price_key", "invoice_number", "customer"):
        assert row[column].startswith("'")


def test_a_negative_amount_stays_a_number() -> None:
    [row] = rows(document([lump("-1234.50")]))
    assert row["amount"] == "-1234.50"


def test_names_keep_their_letters() -> None:
    [row] = rows(document([lump("1.00")], customer=Party(name="東京メータ株式会社 Łódź")))
    assert row["customer"] == "東京メータ株式会社 Łódź"
