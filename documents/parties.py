"""Who sells and who buys, line by line."""

from schemas.documents import Party, Seller
from schemas.invoice_parties import InvoiceParty, InvoiceSeller


def seller_shown(seller: InvoiceSeller) -> Seller:
    return Seller(name=seller.name, details=_details(seller), payment=seller.payment, footer=seller.footer)


def customer_shown(customer: InvoiceParty) -> Party:
    return Party(name=customer.name, details=_details(customer))


def _details(party: InvoiceParty) -> tuple[str, ...]:
    """Address, tax number, e-mail; what is blank has no line."""
    tax_id = f"Tax ID {party.tax_id}" if party.tax_id else ""
    return tuple(line for line in (*party.address, tax_id, party.email or "") if line.strip())
