"""Who an invoice is from and to, as they were when it was made. Kept with it: what is printed must not change later."""

from msgspec import Struct


class InvoiceParty(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`address` are lines."""

    name: str
    address: tuple[str, ...] = ()
    email: str | None = None
    tax_id: str | None = None


class InvoiceSeller(InvoiceParty, frozen=True, kw_only=True, omit_defaults=True):
    """`payment` are lines too; `footer` is one."""

    payment: tuple[str, ...] = ()
    footer: str = ""


class InvoiceParties(Struct, frozen=True, kw_only=True):
    """`timezone` is that of the subscription: periods and dates are written in it. `plan` names plan and version."""

    seller: InvoiceSeller
    customer: InvoiceParty
    timezone: str
    plan: str
