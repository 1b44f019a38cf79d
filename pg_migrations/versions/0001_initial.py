"""The first schema: access, ledger, catalog, contracts and money.

Revision 0001, after nothing.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    _create_access()
    _create_ledger()
    _create_catalog()
    _create_meters_and_features()
    _create_plans()
    _create_customers()
    _create_invoices()
    _create_closings()
    _insert_first_rows()


def downgrade() -> None:
    raise RuntimeError("migrations go forward only: restore a backup, or write the next migration")


def _texts(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.Text(), nullable=False) for name in names]


def _bigints(*names: str) -> list[sa.Column[int]]:
    return [sa.Column(name, sa.BigInteger(), nullable=False) for name in names]


def _created() -> sa.Column[object]:
    return sa.Column("created_at", INSTANT, server_default=sa.text("now()"), nullable=False)


def _scope() -> list[sa.Column[str]]:
    return _texts("tenant", "environment")


def _create_access() -> None:
    """Who may call, and what was answered already."""
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Text(), nullable=False),
        *_scope(),
        sa.Column("name", sa.Text(), server_default="", nullable=False),
        sa.Column("prefix", sa.Text(), nullable=False),
        sa.Column("secret_hash", sa.LargeBinary(), nullable=False),
        sa.Column("scopes", postgresql.ARRAY(sa.Text()), nullable=False),
        _created(),
        sa.Column("revoked_at", INSTANT),
        sa.PrimaryKeyConstraint("id", name="pk_api_keys"),
        sa.UniqueConstraint("secret_hash", name="uq_api_keys_secret_hash"),
    )
    op.create_table(
        "idempotency_keys",
        *_scope(),
        *_texts("key", "operation"),
        sa.Column("request_hash", sa.LargeBinary(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        _created(),
        sa.PrimaryKeyConstraint("tenant", "environment", "key", name="pk_idempotency_keys"),
    )


def _create_ledger() -> None:
    """Topics as recorded, and the counting protocol's rows."""
    op.create_table(
        "log_topics",
        *_texts("name", "topic_id"),
        sa.Column("partitions", sa.Integer(), nullable=False),
        _created(),
        sa.PrimaryKeyConstraint("name", name="pk_log_topics"),
    )
    op.create_table(
        "ledger_partitions",
        sa.Column("topic_id", sa.Text(), nullable=False),
        sa.Column("partition", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("generation", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("last_offset", sa.BigInteger(), server_default="-1", nullable=False),
        sa.Column("open_last_offset", sa.BigInteger()),
        sa.Column("version", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("idle_as_of", INSTANT),
        sa.Column("last_logged_at", INSTANT),
        sa.PrimaryKeyConstraint("topic_id", "partition", name="pk_ledger_partitions"),
    )
    op.create_table(
        "ledger_blocks",
        sa.Column("topic_id", sa.Text(), nullable=False),
        sa.Column("partition", sa.Integer(), nullable=False),
        *_bigints("first_offset", "last_offset"),
        sa.Column("shard", sa.Integer(), server_default="0", nullable=False),
        *_bigints("epoch", "version"),
        sa.Column("evaluator", sa.Integer(), nullable=False),
        sa.Column("cut", sa.BigInteger(), nullable=False),
        sa.Column("insert_before", INSTANT, nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        *_bigints("stored", "duplicate", "rejected", "forwarded"),
        sa.Column("counts", postgresql.JSONB(), nullable=False),
        sa.Column("row_hash", sa.LargeBinary(), nullable=False),
        sa.Column("max_event_at", INSTANT),
        sa.Column("first_logged_at", INSTANT, nullable=False),
        sa.Column("last_logged_at", INSTANT, nullable=False),
        sa.Column("intent_at", INSTANT, nullable=False),
        sa.Column("renewals", sa.Integer(), server_default="0", nullable=False),
        sa.Column("done_at", INSTANT),
        sa.CheckConstraint("state IN ('intent', 'done', 'gap', 'empty')", name=op.f("ck_ledger_blocks_state")),
        sa.PrimaryKeyConstraint("topic_id", "partition", "first_offset", name="pk_ledger_blocks"),
    )
    op.create_index("ix_ledger_blocks_done_at", "ledger_blocks", ["done_at"])
    op.create_index("ix_ledger_blocks_open", "ledger_blocks", ["cut"], postgresql_where=sa.text("state = 'intent'"))
    op.create_table(
        "usage_cut",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("cut", sa.BigInteger(), nullable=False),
        sa.Column("raised_at", INSTANT, nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_usage_cut_one_row")),
        sa.PrimaryKeyConstraint("id", name="pk_usage_cut"),
    )


def _create_catalog() -> None:
    """One version number, its changes, and what leaves through the outbox."""
    op.create_table(
        "catalog_head",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_catalog_head_one_row")),
        sa.PrimaryKeyConstraint("id", name="pk_catalog_head"),
    )
    op.create_table(
        "catalog_changes",
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        *_scope(),
        *_texts("kind", "key"),
        sa.Column("body", postgresql.JSONB(none_as_null=True)),
        _created(),
        sa.PrimaryKeyConstraint("version", "sequence", name="pk_catalog_changes"),
    )
    op.create_table(
        "outbox",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("partition", sa.Integer(), nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        _created(),
        sa.PrimaryKeyConstraint("id", name="pk_outbox"),
    )
    op.create_table(
        "tenant_limits",
        *_scope(),
        *_bigints("max_event_age_s", "max_event_ahead_s"),
        sa.Column("reject_unknown_customer", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("revision", sa.Integer(), server_default="1", nullable=False),
        sa.PrimaryKeyConstraint("tenant", "environment", name="pk_tenant_limits"),
    )


def _create_meters_and_features() -> None:
    """What is counted, and what may be used."""
    op.create_table(
        "meters",
        sa.Column("id", sa.Text(), nullable=False),
        *_scope(),
        *_texts("key", "name"),
        sa.Column("generation", sa.Integer(), server_default="1", nullable=False),
        sa.Column("definition", postgresql.JSONB(), nullable=False),
        sa.Column("revision", sa.Integer(), server_default="1", nullable=False),
        sa.Column("taken_up_in", sa.BigInteger(), nullable=False),
        _created(),
        sa.Column("archived_at", INSTANT),
        sa.PrimaryKeyConstraint("id", name="pk_meters"),
        sa.UniqueConstraint("tenant", "environment", "key", name="uq_meters_tenant_environment_key"),
    )
    op.create_table(
        "features",
        sa.Column("id", sa.Text(), nullable=False),
        *_scope(),
        *_texts("key", "name", "kind"),
        sa.Column("meter_id", sa.Text()),
        sa.Column("revision", sa.Integer(), server_default="1", nullable=False),
        _created(),
        sa.Column("archived_at", INSTANT),
        sa.CheckConstraint("(kind = 'metered') = (meter_id IS NOT NULL)", name=op.f("ck_features_meter")),
        sa.CheckConstraint("kind IN ('metered', 'boolean', 'static')", name=op.f("ck_features_kind")),
        sa.ForeignKeyConstraint(["meter_id"], ["meters.id"], name="fk_features_meter_id"),
        sa.PrimaryKeyConstraint("id", name="pk_features"),
        sa.UniqueConstraint("tenant", "environment", "key", name="uq_features_tenant_environment_key"),
    )


def _create_plans() -> None:
    """What it costs, and what it includes."""
    op.create_table(
        "plans",
        sa.Column("id", sa.Text(), nullable=False),
        *_scope(),
        *_texts("key", "name", "currency"),
        sa.Column("revision", sa.Integer(), server_default="1", nullable=False),
        _created(),
        sa.Column("archived_at", INSTANT),
        sa.PrimaryKeyConstraint("id", name="pk_plans"),
        sa.UniqueConstraint("tenant", "environment", "key", name="uq_plans_tenant_environment_key"),
    )
    op.create_table(
        "plan_versions",
        *_texts("id", "plan_id"),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("cadence", sa.Text(), server_default="month", nullable=False),
        _created(),
        sa.CheckConstraint("status IN ('draft', 'published', 'archived')", name=op.f("ck_plan_versions_status")),
        sa.ForeignKeyConstraint(["plan_id"], ["plans.id"], name="fk_plan_versions_plan_id"),
        sa.PrimaryKeyConstraint("id", name="pk_plan_versions"),
        sa.UniqueConstraint("plan_id", "version", name="uq_plan_versions_plan_id_version"),
    )
    op.create_table(
        "prices",
        sa.Column("id", sa.Text(), nullable=False),
        *_scope(),
        sa.Column("plan_version_id", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        *_texts("key", "name"),
        sa.Column("meter_id", sa.Text()),
        sa.Column("definition", postgresql.JSONB(), nullable=False),
        _created(),
        sa.ForeignKeyConstraint(["meter_id"], ["meters.id"], name="fk_prices_meter_id"),
        sa.ForeignKeyConstraint(["plan_version_id"], ["plan_versions.id"], name="fk_prices_plan_version_id"),
        sa.PrimaryKeyConstraint("id", name="pk_prices"),
        sa.UniqueConstraint("plan_version_id", "key", name="uq_prices_plan_version_id_key"),
    )
    op.create_table(
        "plan_entitlements",
        *_texts("plan_version_id", "feature_id"),
        sa.Column("terms", postgresql.JSONB(), nullable=False),
        sa.ForeignKeyConstraint(["feature_id"], ["features.id"], name="fk_plan_entitlements_feature_id"),
        sa.ForeignKeyConstraint(["plan_version_id"], ["plan_versions.id"], name="fk_plan_entitlements_plan_version_id"),
        sa.PrimaryKeyConstraint("plan_version_id", "feature_id", name="pk_plan_entitlements"),
    )


def _create_customers() -> None:
    """Who uses it, under which contract."""
    op.create_table(
        "customers",
        sa.Column("id", sa.Text(), nullable=False),
        *_scope(),
        sa.Column("external_id", sa.Text()),
        sa.Column("name", sa.Text(), server_default="", nullable=False),
        sa.Column("timezone", sa.Text(), server_default="UTC", nullable=False),
        sa.Column("currency", sa.Text()),
        sa.Column("attributes", postgresql.JSONB(), server_default="{}", nullable=False),
        sa.Column("revision", sa.Integer(), server_default="1", nullable=False),
        sa.Column("known_in", sa.BigInteger(), nullable=False),
        _created(),
        sa.Column("archived_at", INSTANT),
        sa.PrimaryKeyConstraint("id", name="pk_customers"),
    )
    op.create_table(
        "customer_references",
        *_scope(),
        *_texts("reference", "customer_id", "kind"),
        sa.CheckConstraint("kind IN ('id', 'external_id', 'alias')", name=op.f("ck_customer_references_kind")),
        sa.ForeignKeyConstraint(["customer_id"], ["customers.id"], name="fk_customer_references_customer_id"),
        sa.PrimaryKeyConstraint("tenant", "environment", "reference", name="pk_customer_references"),
    )
    op.create_index("ix_customer_references_customer_id", "customer_references", ["customer_id"])
    op.create_table(
        "subscriptions",
        sa.Column("id", sa.Text(), nullable=False),
        *_scope(),
        *_texts("customer_id", "plan_version_id", "status"),
        sa.Column("billing", sa.Text(), server_default="anniversary", nullable=False),
        sa.Column("timezone", sa.Text(), nullable=False),
        sa.Column("start_at", INSTANT, nullable=False),
        sa.Column("end_at", INSTANT),
        sa.Column("anchor_at", INSTANT, nullable=False),
        sa.Column("next_close_at", INSTANT),
        sa.Column("closed_to", INSTANT, nullable=False),
        sa.Column("revision", sa.Integer(), server_default="1", nullable=False),
        _created(),
        sa.CheckConstraint("billing IN ('anniversary', 'calendar')", name=op.f("ck_subscriptions_billing")),
        sa.CheckConstraint(
            "status IN ('scheduled', 'active', 'cancelled', 'ended')", name=op.f("ck_subscriptions_status")
        ),
        sa.CheckConstraint("end_at IS NULL OR end_at > start_at", name=op.f("ck_subscriptions_ends_after_start")),
        sa.ForeignKeyConstraint(["customer_id"], ["customers.id"], name="fk_subscriptions_customer_id"),
        sa.ForeignKeyConstraint(["plan_version_id"], ["plan_versions.id"], name="fk_subscriptions_plan_version_id"),
        sa.PrimaryKeyConstraint("id", name="pk_subscriptions"),
    )
    op.create_index("ix_subscriptions_customer_id", "subscriptions", ["customer_id"])
    op.create_index(
        "ix_subscriptions_next_close_at",
        "subscriptions",
        ["next_close_at"],
        postgresql_where=sa.text("next_close_at IS NOT NULL"),
    )


def _create_invoices() -> None:
    """What was billed, once."""
    op.create_table(
        "invoice_numbers",
        *_scope(),
        sa.Column("last_number", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "environment", name="pk_invoice_numbers"),
    )
    op.create_table(
        "invoices",
        sa.Column("id", sa.Text(), nullable=False),
        *_scope(),
        *_texts("number", "customer_id"),
        sa.Column("subscription_id", sa.Text()),
        *_texts("status", "currency"),
        sa.Column("period_start", INSTANT, nullable=False),
        sa.Column("period_end", INSTANT, nullable=False),
        sa.Column("subtotal", sa.Numeric(), nullable=False),
        sa.Column("total", sa.Numeric(), nullable=False),
        sa.Column("amount_due", sa.Numeric(), nullable=False),
        sa.Column("cut", sa.BigInteger(), nullable=False),
        sa.Column("as_of", INSTANT, nullable=False),
        sa.Column("issued_at", INSTANT, nullable=False),
        _created(),
        sa.CheckConstraint(
            "status IN ('draft', 'open', 'paid', 'void', 'uncollectible')", name=op.f("ck_invoices_status")
        ),
        sa.ForeignKeyConstraint(["customer_id"], ["customers.id"], name="fk_invoices_customer_id"),
        sa.ForeignKeyConstraint(["subscription_id"], ["subscriptions.id"], name="fk_invoices_subscription_id"),
        sa.PrimaryKeyConstraint("id", name="pk_invoices"),
        sa.UniqueConstraint("tenant", "environment", "number", name="uq_invoices_tenant_environment_number"),
    )
    op.create_index("ix_invoices_customer_id", "invoices", ["customer_id"])
    op.create_table(
        "invoice_lines",
        sa.Column("invoice_id", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        *_texts("id", "kind", "price_id", "price_key", "description"),
        sa.Column("meter_id", sa.Text()),
        sa.Column("generation", sa.Integer()),
        sa.Column("quantity", sa.Numeric(), nullable=False),
        sa.Column("exact_amount", sa.Numeric(), nullable=False),
        sa.Column("amount", sa.Numeric(), nullable=False),
        sa.Column("period_start", INSTANT, nullable=False),
        sa.Column("period_end", INSTANT, nullable=False),
        sa.Column("steps", postgresql.JSONB(), nullable=False),
        sa.ForeignKeyConstraint(["invoice_id"], ["invoices.id"], name="fk_invoice_lines_invoice_id"),
        sa.PrimaryKeyConstraint("invoice_id", "position", name="pk_invoice_lines"),
        sa.UniqueConstraint("id", name="uq_invoice_lines_id"),
    )


def _create_closings() -> None:
    """Which period was billed by what, and which could not be."""
    op.create_table(
        "billed_periods",
        sa.Column("subscription_id", sa.Text(), nullable=False),
        sa.Column("period_start", INSTANT, nullable=False),
        sa.Column("period_end", INSTANT, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("invoice_id", sa.Text(), nullable=False),
        _created(),
        sa.ForeignKeyConstraint(["invoice_id"], ["invoices.id"], name="fk_billed_periods_invoice_id"),
        sa.ForeignKeyConstraint(["subscription_id"], ["subscriptions.id"], name="fk_billed_periods_subscription_id"),
        sa.PrimaryKeyConstraint(
            "subscription_id", "period_start", "period_end", "kind", "sequence", name="pk_billed_periods"
        ),
    )
    op.create_table(
        "closing_failures",
        sa.Column("subscription_id", sa.Text(), nullable=False),
        sa.Column("period_start", INSTANT, nullable=False),
        sa.Column("period_end", INSTANT, nullable=False),
        *_texts("code", "message"),
        sa.Column("attempts", sa.Integer(), server_default="1", nullable=False),
        sa.Column("failed_at", INSTANT, nullable=False),
        sa.ForeignKeyConstraint(["subscription_id"], ["subscriptions.id"], name="fk_closing_failures_subscription_id"),
        sa.PrimaryKeyConstraint("subscription_id", "period_start", "period_end", name="pk_closing_failures"),
    )


def _insert_first_rows() -> None:
    """The two counters that are one row each: steps lock it, so it must be there."""
    op.execute("INSERT INTO usage_cut (id, cut, raised_at) VALUES (1, 1, now())")
    op.execute("INSERT INTO catalog_head (id, version) VALUES (1, 0)")
