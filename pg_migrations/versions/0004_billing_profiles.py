"""Who sells and who buys, as invoices print them, and a copy of both with each invoice.

Revision 0004, after 0003.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# What an invoice printed until now: nobody had a profile or an address.
_AS_PRINTED = """
    UPDATE invoices AS made SET parties = jsonb_build_object(
        'seller', jsonb_build_object('name', made.tenant),
        'customer', jsonb_build_object('name', coalesce(nullif(bought.name, ''), bought.external_id, bought.id)),
        'timezone', coalesce(
            (SELECT timezone FROM subscriptions WHERE subscriptions.id = made.subscription_id), bought.timezone
        ),
        'plan', coalesce(
            (
                SELECT coalesce(nullif(plans.name, ''), plans.key) || ', version ' || plan_versions.version
                FROM invoice_lines
                JOIN prices ON prices.id = invoice_lines.price_id
                JOIN plan_versions ON plan_versions.id = prices.plan_version_id
                JOIN plans ON plans.id = plan_versions.plan_id
                WHERE invoice_lines.invoice_id = made.id
                ORDER BY invoice_lines.position
                LIMIT 1
            ),
            ''
        )
    )
    FROM customers AS bought
    WHERE bought.id = made.customer_id
"""


def upgrade() -> None:
    op.create_table(
        "billing_profiles",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("profile", postgresql.JSONB(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "environment", name="pk_billing_profiles"),
    )
    op.add_column("customers", sa.Column("address", postgresql.ARRAY(sa.Text()), server_default="{}", nullable=False))
    op.add_column("customers", sa.Column("email", sa.Text()))
    op.add_column("customers", sa.Column("tax_id", sa.Text()))
    op.add_column("invoices", sa.Column("parties", postgresql.JSONB()))
    op.execute(_AS_PRINTED)
    op.alter_column("invoices", "parties", nullable=False)


def downgrade() -> None:
    raise RuntimeError("migrations go forward only: restore a backup, or write the next migration")
