"""Adjustment lines, and which ended subscriptions are looked at again for late usage.

Revision 0007, after 0006.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("invoice_lines", sa.Column("adjusts", postgresql.JSONB(none_as_null=True)))
    op.add_column("invoice_lines", sa.Column("spans", postgresql.JSONB(none_as_null=True)))
    op.create_table(
        "late_looks",
        sa.Column("subscription_id", sa.Text(), nullable=False),
        sa.Column("cut", sa.BigInteger(), nullable=False),
        sa.Column("looked_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["subscription_id"], ["subscriptions.id"], name="fk_late_looks_subscription_id"),
        sa.PrimaryKeyConstraint("subscription_id", name="pk_late_looks"),
    )
    op.create_index("ix_late_looks_looked_at", "late_looks", ["looked_at"])
    # Subscriptions that ended before: the first look finds out which of them are too old.
    op.execute("""
        INSERT INTO late_looks (subscription_id, cut, looked_at)
        SELECT held.id, max(invoice.cut), max(invoice.issued_at)
        FROM subscriptions AS held
        JOIN billed_periods AS billed ON billed.subscription_id = held.id AND billed.kind = 'usage'
        JOIN invoices AS invoice ON invoice.id = billed.invoice_id
        WHERE held.next_close_at IS NULL AND held.end_at IS NOT NULL
        GROUP BY held.id
    """)


def downgrade() -> None:
    raise RuntimeError("migrations go forward only: restore a backup, or write the next migration")
