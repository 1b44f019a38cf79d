"""What makes a customer valid beyond its types."""

from domain.errors import invalid_field
from domain.money import minor_units
from domain.periods import zone_of
from schemas.customers import MAX_ALIASES, Customer


def validate_customer(customer: Customer, id_prefix: str) -> None:
    """Raises Invalid `unknown_timezone`, `unknown_currency`, `email_malformed`, `too_many_aliases`, `reference_repeated`,
    `reference_reserved` (looks like an id), `reference_malformed` (control characters, or blanks at an end).
    """
    zone_of(customer.timezone)
    if customer.currency is not None:
        minor_units(customer.currency)
    check_email(customer.email)
    if len(customer.aliases) > MAX_ALIASES:
        raise invalid_field("/aliases", "too_many_aliases", f"at most {MAX_ALIASES} aliases are taken")
    named = [*([] if customer.external_id is None else [("/external_id", customer.external_id)])]
    named += [(f"/aliases/{position}", alias) for position, alias in enumerate(customer.aliases)]
    seen: set[str] = set()
    for pointer, reference in named:
        if not reference.isprintable() or reference != reference.strip():
            raise invalid_field(
                pointer, "reference_malformed", "a reference is printable text without blanks at its ends"
            )
        if reference.startswith(f"{id_prefix}_"):
            raise invalid_field(
                pointer, "reference_reserved", f"references that begin with {id_prefix}_ are kept for ids"
            )
        if reference in seen:
            raise invalid_field(pointer, "reference_repeated", f"{reference!r} stands there twice")
        seen.add(reference)


def check_email(email: str | None) -> None:
    """Raises Invalid `email_malformed` for what no letter can reach: it is to be told before it is printed.

    Whether it exists, only a letter to it can tell.
    """
    if email is None:
        return
    name, _, host = email.rpartition("@")
    if not (name and host and email.isprintable() and " " not in email):
        raise invalid_field("/email", "email_malformed", "an e-mail address is a name, an @ and a host, without blanks")


def references_of(customer: Customer) -> list[str]:
    """Every text an event may name the customer by; the id first."""
    given = [] if customer.external_id is None else [customer.external_id]
    return [customer.id, *given, *customer.aliases]
