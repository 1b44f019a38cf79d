"""The numbers of invoices: one counter for each tenant and environment, without a gap, in the format of its profile."""

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.invoice_numbers import invoice_number
from domain.parties import default_profile
from schemas.billing_profiles import BillingProfileSpec
from schemas.scope import Scope

# In one order, so that two transactions that number for the same tenants wait for one another.
_NUMBERS = text("""
    WITH numbered AS (
        INSERT INTO invoice_numbers (tenant, environment, last_number)
        SELECT tenant, environment, count FROM unnest(
            CAST(:tenants AS text[]), CAST(:environments AS text[]), CAST(:counts AS bigint[])
        ) AS taken (tenant, environment, count)
        ORDER BY tenant, environment
        ON CONFLICT (tenant, environment) DO UPDATE SET last_number = invoice_numbers.last_number + excluded.last_number
        RETURNING tenant, environment, last_number
    )
    SELECT numbered.tenant, numbered.environment, numbered.last_number, billing_profiles.profile
    FROM numbered LEFT JOIN billing_profiles USING (tenant, environment)
""")


async def take_numbers(conn: AsyncConnection, scopes: Sequence[Scope], issued_at: datetime) -> Iterator[str]:
    """A number for each of `scopes`: the next of that tenant and environment, as its format says. Their rows stay locked
    until the transaction ends, and a transaction that fails gives them back: so there is never a gap.
    """
    counts = Counter(scopes)
    asked = {
        "tenants": [scope.tenant for scope in counts],
        "environments": [scope.environment for scope in counts],
        "counts": list(counts.values()),
    }
    following: dict[Scope, Iterator[str]] = {}
    for row in await conn.execute(_NUMBERS, asked):
        scope = Scope(row.tenant, row.environment)
        profile = default_profile(scope) if row.profile is None else msgspec.convert(row.profile, BillingProfileSpec)
        following[scope] = _named(profile, row.last_number - counts[scope] + 1, issued_at)
    return (next(following[scope]) for scope in scopes)


def _named(profile: BillingProfileSpec, first: int, issued_at: datetime) -> Iterator[str]:
    for number in itertools.count(first):
        yield invoice_number(profile.invoice_number_format, number, issued_at, profile.timezone)
