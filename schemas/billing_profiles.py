"""Who sells: what a tenant's invoices say of it, and how they are numbered."""

from typing import Annotated

from msgspec import Meta, Struct

from schemas.customers import Address, Email, TaxId

DEFAULT_NUMBER_FORMAT = "INV-{number:06d}"

SellerName = Annotated[str, Meta(max_length=200, pattern=r"\S", examples=["Nordlicht Cloud GmbH"])]
PaymentLines = Annotated[tuple[Annotated[str, Meta(max_length=200)], ...], Meta(max_length=10)]
Footer = Annotated[str, Meta(max_length=300, examples=["Amtsgericht Hamburg HRB 154 881"])]
NumberFormat = Annotated[str, Meta(examples=["INV-{number:06d}", "{year}-{number:05d}"])]
Timezone = Annotated[str, Meta(examples=["Europe/Berlin"])]


class BillingProfileSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`payment` says line by line how to pay, `footer` stands at the foot of each page.

    `invoice_number_format` holds `{number}` or `{number:06d}` at its end, and `{year}` where wanted: the year of issue
    in `timezone`.
    """

    name: SellerName
    address: Address = ()
    email: Email | None = None
    tax_id: TaxId | None = None
    payment: PaymentLines = ()
    footer: Footer = ""
    invoice_number_format: NumberFormat = DEFAULT_NUMBER_FORMAT
    timezone: Timezone = "UTC"


class BillingProfile(BillingProfileSpec, frozen=True, kw_only=True):
    """`revision` 0 is what holds while none was put: the tenant's own name."""

    revision: int
