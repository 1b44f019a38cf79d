from datetime import timedelta

import pytest

from documents.parties import customer_shown, seller_shown
from domain.customers import check_email
from domain.errors import Invalid
from domain.parties import plans_billed, printed_name, printed_plan
from schemas.documents import Party, Seller
from schemas.invoice_parties import InvoiceParty, InvoiceSeller
from tests.support.invoice_documents import STARTS, invoice, line
from tests.support.refusals import refusal_of


def test_a_party_shows_its_address_tax_number_and_mail_and_no_empty_lines() -> None:
    customer = InvoiceParty(name="Acme", address=("Street 1", " ", "Town"), email="pay@acme.example", tax_id="DE1")
    shown = ("Street 1", "Town", "Tax ID DE1", "pay@acme.example")
    assert customer_shown(customer) == Party(name="Acme", details=shown)
    assert customer_shown(InvoiceParty(name="Acme")) == Party(name="Acme")


def test_a_seller_says_besides_how_to_pay() -> None:
    seller = InvoiceSeller(name="Us", address=("Here",), payment=("IBAN 1", "BIC 2"), footer="Register 3")
    assert seller_shown(seller) == Seller(
        name="Us", details=("Here",), payment=("IBAN 1", "BIC 2"), footer="Register 3"
    )


@pytest.mark.parametrize(
    ("name", "external_id", "shown"), [("Acme", "acme", "Acme"), ("", "acme", "acme"), ("", None, "cus_1")]
)
def test_a_customer_without_a_name_is_called_by_its_id(name: str, external_id: str | None, shown: str) -> None:
    assert printed_name(name, external_id, "cus_1") == shown


def test_a_plan_is_told_with_its_version() -> None:
    assert (printed_plan("Scale", "scale", 3), printed_plan("", "scale", 1)) == ("Scale, version 3", "scale, version 1")


def test_an_invoice_names_the_plans_of_its_own_period() -> None:
    before = STARTS - timedelta(days=31)
    kept = invoice(
        [
            line(id="lin_1", price_id="pri_new"),
            line(id="lin_2", price_id="pri_old"),
            line(id="lin_3", price_id="pri_new_too"),
            line(id="lin_4", price_id="pri_gone"),
            line(id="lin_5", price_id="pri_before", period_start=before, period_end=STARTS),
        ]
    )
    sold_in = {"pri_new": "B, version 2", "pri_new_too": "B, version 2", "pri_old": "A, version 1", "pri_before": "Z"}
    assert plans_billed(kept, sold_in) == "B, version 2; A, version 1"
    assert plans_billed(kept, {}) == ""


@pytest.mark.parametrize("email", ["a@b", "first.last+tag@mail.example.com", "ü@münchen.example", '"a@b"@c.example'])
def test_an_address_that_may_reach_somebody_is_taken(email: str) -> None:
    assert refusal_of(lambda: check_email(email)) is None


@pytest.mark.parametrize("email", ["", "a", "@b", "a@", "a b@c", "a@b\n", "a@b\x00"])
def test_what_is_no_address_is_refused(email: str) -> None:
    with pytest.raises(Invalid) as refused:
        check_email(email)
    assert refused.value.code == "email_malformed"
