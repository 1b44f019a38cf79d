"""What every table shares: one metadata with named constraints, and the types of instants, quantities and money.

Money and quantities are `numeric`; instants `timestamptz`; ids are prefixed texts made by the caller.
"""

from sqlalchemy import Column, DateTime, MetaData, Numeric, Text, func

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
}
metadata = MetaData(naming_convention=NAMING)

INSTANT = DateTime(timezone=True)
# No precision: a sum of quantities of 26 digits, and an amount before rounding, are kept exactly as computed.
QUANTITY = Numeric
MONEY = Numeric


def created() -> Column[object]:
    return Column("created_at", INSTANT, nullable=False, server_default=func.now())


def scope_columns() -> tuple[Column[object], Column[object]]:
    return Column("tenant", Text, nullable=False), Column("environment", Text, nullable=False)
