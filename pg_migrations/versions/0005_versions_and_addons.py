"""Versions of plans with phases and a time of publishing, and add-ons with versions.

Revision 0005, after 0004.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    _extend_plan_versions()
    _create_addons()


def _extend_plan_versions() -> None:
    op.add_column("plan_versions", sa.Column("family", sa.Text()))
    op.add_column("plan_versions", sa.Column("level", sa.Integer(), server_default="0", nullable=False))
    op.add_column("plan_versions", sa.Column("phases", postgresql.JSONB()))
    op.add_column("plan_versions", sa.Column("revision", sa.Integer(), server_default="1", nullable=False))
    op.add_column("plan_versions", sa.Column("published_at", INSTANT))
    op.add_column("plan_versions", sa.Column("archived_at", INSTANT))
    # Until now every version was published as it was made.
    op.execute("UPDATE plan_versions SET published_at = created_at WHERE status = 'published'")


def _create_addons() -> None:
    op.create_table(
        "addons",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("revision", sa.Integer(), server_default="1", nullable=False),
        sa.Column("created_at", INSTANT, server_default=sa.text("now()"), nullable=False),
        sa.Column("archived_at", INSTANT),
        sa.PrimaryKeyConstraint("id", name="pk_addons"),
        sa.UniqueConstraint("tenant", "environment", "key", name="uq_addons_tenant_environment_key"),
    )
    op.create_table(
        "addon_versions",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("addon_id", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("terms", postgresql.JSONB(), nullable=False),
        sa.Column("revision", sa.Integer(), server_default="1", nullable=False),
        sa.Column("created_at", INSTANT, server_default=sa.text("now()"), nullable=False),
        sa.Column("published_at", INSTANT),
        sa.Column("archived_at", INSTANT),
        sa.CheckConstraint("status IN ('draft', 'published', 'archived')", name=op.f("ck_addon_versions_status")),
        sa.ForeignKeyConstraint(["addon_id"], ["addons.id"], name="fk_addon_versions_addon_id"),
        sa.PrimaryKeyConstraint("id", name="pk_addon_versions"),
        sa.UniqueConstraint("addon_id", "version", name="uq_addon_versions_addon_id_version"),
    )


def downgrade() -> None:
    raise RuntimeError("migrations go forward only: restore a backup, or write the next migration")
