"""Who invoices are from and to."""

from collections.abc import Mapping

from domain.customers import check_email
from domain.invoice_numbers import validate_number_format
from domain.periods import zone_of
from schemas.billing_profiles import BillingProfile, BillingProfileSpec
from schemas.invoice_parties import InvoiceSeller
from schemas.invoices import Invoice
from schemas.scope import Scope


def default_profile(scope: Scope) -> BillingProfile:
    """What holds until a profile is put: the tenant by its own name."""
    return BillingProfile(name=scope.tenant, revision=0)


def validate_profile(profile: BillingProfileSpec) -> None:
    """Raises Invalid `email_malformed`, `number_format_malformed`, `unknown_timezone`."""
    check_email(profile.email)
    validate_number_format(profile.invoice_number_format)
    zone_of(profile.timezone)


def seller_of(profile: BillingProfileSpec) -> InvoiceSeller:
    """What an invoice keeps of the profile."""
    return InvoiceSeller(
        name=profile.name,
        address=profile.address,
        email=profile.email,
        tax_id=profile.tax_id,
        payment=profile.payment,
        footer=profile.footer,
    )


def printed_name(name: str, external_id: str | None, customer_id: str) -> str:
    """A customer without a name is called by the id of its own systems, else by ours."""
    return name or external_id or customer_id


def printed_plan(name: str, key: str, version: int) -> str:
    """`Scale, version 3`."""
    return f"{name or key}, version {version}"


def plans_billed(invoice: Invoice, sold_in: Mapping[str, str]) -> str:
    """The plans whose prices it bills, in the order of its lines; `sold_in` says by price id which plan it is of.

    What corrects an earlier period does not say which plan this one was billed by.
    """
    current = [line.price_id for line in invoice.lines if line.period_end > invoice.period_start]
    return "; ".join(dict.fromkeys(sold_in[price_id] for price_id in current if price_id in sold_in))
