"""Every cut with its instant, ledger rows that stand for several blocks, and the names that an invoice was counted by.

Revision 0002, after 0001.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "usage_cuts",
        sa.Column("cut", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("raised_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("cut", name="pk_usage_cuts"),
    )
    op.create_index("ix_usage_cuts_raised_at", "usage_cuts", ["raised_at"])
    # Earlier cuts left no instant behind.
    op.execute("INSERT INTO usage_cuts (cut, raised_at) SELECT cut, raised_at FROM usage_cut WHERE id = 1")
    op.add_column("ledger_blocks", sa.Column("blocks", sa.BigInteger(), server_default="1", nullable=False))
    op.create_index("ix_ledger_blocks_cut", "ledger_blocks", ["topic_id", "partition", "cut", "first_offset"])
    op.add_column("invoices", sa.Column("customer_references", postgresql.ARRAY(sa.Text())))


def downgrade() -> None:
    raise RuntimeError("migrations go forward only: restore a backup, or write the next migration")
