"""The history of every subscription, and its terms over time where a row cannot hold them.

Revision 0006, after 0005. Subscriptions of before are told as what was done to them: created, activated and, where they
have an end, cancelled. Their rows say the same, so they need no `life`.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_STATES = "'draft', 'scheduled', 'trialing', 'active', 'past_due', 'paused', 'cancelled', 'ended'"
_INSTANT = """to_char({} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""
_RECORD = """
    INSERT INTO subscription_changes (subscription_id, revision, key, record, created_at)
    SELECT held.id, {revision}, 'migration/{revision}', jsonb_build_object(
        'revision', {revision}, 'change', {change}, 'made_by', 'migration', 'made_at', {made_at},
        'effective_at', {effective_at}, 'key', 'migration/{revision}', 'reason', ''
    ), held.created_at
    FROM subscriptions AS held
    JOIN plan_versions ON plan_versions.id = held.plan_version_id JOIN plans ON plans.id = plan_versions.plan_id
    WHERE {which}
"""
_CREATE = """jsonb_build_object(
    'kind', 'create', 'customer_id', held.customer_id, 'plan_version_id', held.plan_version_id,
    'currency', plans.currency, 'billing', held.billing, 'timezone', held.timezone, 'quantities', '{}'::jsonb
)"""
_ACTIVATE = f"jsonb_build_object('kind', 'activate', 'trial_end_at', {_INSTANT.format('held.start_at')})"
_CANCEL = "jsonb_build_object('kind', 'cancel')"


def upgrade() -> None:
    op.create_table(
        "subscription_changes",
        sa.Column("subscription_id", sa.Text(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("record", postgresql.JSONB(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("subscription_id", "revision", name="pk_subscription_changes"),
        sa.ForeignKeyConstraint(
            ["subscription_id"], ["subscriptions.id"], name="fk_subscription_changes_subscription_id"
        ),
        sa.UniqueConstraint("subscription_id", "key", name="uq_subscription_changes_subscription_id_key"),
    )
    op.add_column("subscriptions", sa.Column("trial_end_at", sa.DateTime(timezone=True)))
    op.add_column("subscriptions", sa.Column("life", postgresql.JSONB()))
    op.add_column("subscriptions", sa.Column("terms_revision", sa.Integer(), server_default="0", nullable=False))
    op.add_column("invoices", sa.Column("terms_revision", sa.Integer()))
    op.drop_constraint(op.f("ck_subscriptions_status"), "subscriptions", type_="check")
    op.create_check_constraint(op.f("ck_subscriptions_status"), "subscriptions", f"status IN ({_STATES})")
    # One that never runs ends where it was to start.
    op.drop_constraint(op.f("ck_subscriptions_ends_after_start"), "subscriptions", type_="check")
    op.create_check_constraint(
        op.f("ck_subscriptions_ends_after_start"), "subscriptions", "end_at IS NULL OR end_at >= start_at"
    )
    _tell(1, _CREATE, "date_trunc('second', held.created_at)", "true")
    _tell(2, _ACTIVATE, "held.start_at", "true")
    _tell(3, _CANCEL, "held.end_at", "held.end_at IS NOT NULL")
    op.execute("UPDATE subscriptions SET terms_revision = CASE WHEN end_at IS NULL THEN 2 ELSE 3 END")


def _tell(number: int, change: str, effective_at: str, which: str) -> None:
    op.execute(
        _RECORD.format(
            revision=number,
            change=change,
            made_at=_INSTANT.format("held.created_at"),
            effective_at=_INSTANT.format(effective_at),
            which=which,
        )
    )


def downgrade() -> None:
    raise RuntimeError("migrations go forward only: restore a backup, or write the next migration")
