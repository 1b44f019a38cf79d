"""The tables of access, catalog, contracts and money; `log_tables.py` has those of the counting protocol.

Migrations in `pg_migrations/` build exactly these (a test compares them).
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from stores.postgres.metadata import INSTANT, MONEY, QUANTITY, created, metadata, scope_columns

# --- access ---------------------------------------------------------------------------------------------------------

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Text, primary_key=True),
    *scope_columns(),
    Column("name", Text, nullable=False, server_default=""),
    Column("prefix", Text, nullable=False),
    Column("secret_hash", LargeBinary, nullable=False, unique=True),  # sha256 of a secret with 256 bits of entropy
    Column("scopes", ARRAY(Text), nullable=False),
    created(),
    Column("revoked_at", INSTANT),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    *scope_columns(),
    Column("key", Text, nullable=False),
    Column("operation", Text, nullable=False),
    Column("request_hash", LargeBinary, nullable=False),
    Column("status", Integer, nullable=False),
    Column("body", LargeBinary, nullable=False),
    created(),
    PrimaryKeyConstraint("tenant", "environment", "key"),
)

# --- catalog ------------------------------------------------------------------------------------------------------------

catalog_head = Table(
    "catalog_head",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("version", BigInteger, nullable=False),
    CheckConstraint("id = 1", name="one_row"),
)

catalog_changes = Table(
    "catalog_changes",
    metadata,
    Column("version", BigInteger, nullable=False),
    Column("sequence", Integer, nullable=False),
    *scope_columns(),
    Column("kind", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("body", JSONB(none_as_null=True)),
    created(),
    PrimaryKeyConstraint("version", "sequence"),
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("topic", Text, nullable=False),
    Column("partition", Integer, nullable=False),
    Column("key", LargeBinary, nullable=False),
    Column("value", LargeBinary, nullable=False),
    created(),
)

tenant_limits = Table(
    "tenant_limits",
    metadata,
    *scope_columns(),
    Column("max_event_age_s", BigInteger, nullable=False),
    Column("max_event_ahead_s", BigInteger, nullable=False),
    Column("reject_unknown_customer", Boolean, nullable=False, server_default=text("false")),
    Column("revision", Integer, nullable=False, server_default="1"),
    PrimaryKeyConstraint("tenant", "environment"),
)

meters = Table(
    "meters",
    metadata,
    Column("id", Text, primary_key=True),
    *scope_columns(),
    Column("key", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("generation", Integer, nullable=False, server_default="1"),
    Column("definition", JSONB, nullable=False),  # schemas.meters.Meter
    Column("revision", Integer, nullable=False, server_default="1"),
    Column("taken_up_in", BigInteger, nullable=False),  # catalog version of this generation
    created(),
    Column("archived_at", INSTANT),
    UniqueConstraint("tenant", "environment", "key"),
)

features = Table(
    "features",
    metadata,
    Column("id", Text, primary_key=True),
    *scope_columns(),
    Column("key", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("meter_id", Text, ForeignKey("meters.id")),
    Column("revision", Integer, nullable=False, server_default="1"),
    created(),
    Column("archived_at", INSTANT),
    UniqueConstraint("tenant", "environment", "key"),
    CheckConstraint("kind IN ('metered', 'boolean', 'static')", name="kind"),
    CheckConstraint("(kind = 'metered') = (meter_id IS NOT NULL)", name="meter"),
)

plans = Table(
    "plans",
    metadata,
    Column("id", Text, primary_key=True),
    *scope_columns(),
    Column("key", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("revision", Integer, nullable=False, server_default="1"),
    created(),
    Column("archived_at", INSTANT),
    UniqueConstraint("tenant", "environment", "key"),
)

plan_versions = Table(
    "plan_versions",
    metadata,
    Column("id", Text, primary_key=True),
    Column("plan_id", Text, ForeignKey("plans.id"), nullable=False),
    Column("version", Integer, nullable=False),
    Column("status", Text, nullable=False),
    Column("cadence", Text, nullable=False, server_default="month"),
    Column("family", Text),
    Column("level", Integer, nullable=False, server_default="0"),
    # schemas.plan_phases.Phase; null: one phase of the version's prices and entitlements, billed in arrears
    Column("phases", JSONB(none_as_null=True)),
    Column("revision", Integer, nullable=False, server_default="1"),
    created(),
    Column("published_at", INSTANT),
    Column("archived_at", INSTANT),
    UniqueConstraint("plan_id", "version"),
    CheckConstraint("status IN ('draft', 'published', 'archived')", name="status"),
)

prices = Table(
    "prices",
    metadata,
    Column("id", Text, primary_key=True),
    *scope_columns(),
    Column("plan_version_id", Text, ForeignKey("plan_versions.id"), nullable=False),
    Column("position", Integer, nullable=False),
    Column("key", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("meter_id", Text, ForeignKey("meters.id")),  # null: a fee of its own
    Column("definition", JSONB, nullable=False),  # schemas.prices.Price
    created(),
    UniqueConstraint("plan_version_id", "key"),
)

plan_entitlements = Table(
    "plan_entitlements",
    metadata,
    Column("plan_version_id", Text, ForeignKey("plan_versions.id"), nullable=False),
    Column("feature_id", Text, ForeignKey("features.id"), nullable=False),
    Column("terms", JSONB, nullable=False),  # limit, soft, usage_period, enabled, config, thresholds
    PrimaryKeyConstraint("plan_version_id", "feature_id"),
)

addons = Table(
    "addons",
    metadata,
    Column("id", Text, primary_key=True),
    *scope_columns(),
    Column("key", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("revision", Integer, nullable=False, server_default="1"),
    created(),
    Column("archived_at", INSTANT),
    UniqueConstraint("tenant", "environment", "key"),
)

addon_versions = Table(
    "addon_versions",
    metadata,
    Column("id", Text, primary_key=True),
    Column("addon_id", Text, ForeignKey("addons.id"), nullable=False),
    Column("version", Integer, nullable=False),
    Column("status", Text, nullable=False),
    Column("terms", JSONB, nullable=False),  # schemas.addons.AddonTerms
    Column("revision", Integer, nullable=False, server_default="1"),
    created(),
    Column("published_at", INSTANT),
    Column("archived_at", INSTANT),
    UniqueConstraint("addon_id", "version"),
    CheckConstraint("status IN ('draft', 'published', 'archived')", name="status"),
)

# --- customers and contracts ----------------------------------------------------------------------------------------------

customers = Table(
    "customers",
    metadata,
    Column("id", Text, primary_key=True),
    *scope_columns(),
    Column("external_id", Text),
    Column("name", Text, nullable=False, server_default=""),
    Column("timezone", Text, nullable=False, server_default="UTC"),
    Column("currency", Text),
    Column("address", ARRAY(Text), nullable=False, server_default="{}"),  # lines
    Column("email", Text),
    Column("tax_id", Text),
    Column("attributes", JSONB, nullable=False, server_default="{}"),
    Column("revision", Integer, nullable=False, server_default="1"),
    Column("known_in", BigInteger, nullable=False),  # catalog version that made its references known
    created(),
    Column("archived_at", INSTANT),
)

customer_references = Table(
    "customer_references",
    metadata,
    *scope_columns(),
    Column("reference", Text, nullable=False),
    Column("customer_id", Text, ForeignKey("customers.id"), nullable=False),
    Column("kind", Text, nullable=False),
    PrimaryKeyConstraint("tenant", "environment", "reference"),
    CheckConstraint("kind IN ('id', 'external_id', 'alias')", name="kind"),
    Index("ix_customer_references_customer_id", "customer_id"),
)

subscriptions = Table(
    "subscriptions",
    metadata,
    Column("id", Text, primary_key=True),
    *scope_columns(),
    Column("customer_id", Text, ForeignKey("customers.id"), nullable=False),
    Column("plan_version_id", Text, ForeignKey("plan_versions.id"), nullable=False),
    Column("status", Text, nullable=False),
    Column("billing", Text, nullable=False, server_default="anniversary"),
    Column("timezone", Text, nullable=False),
    Column("start_at", INSTANT, nullable=False),
    Column("end_at", INSTANT),
    Column("trial_end_at", INSTANT),  # billing periods count from here; null: from the start
    Column("anchor_at", INSTANT, nullable=False),
    Column("next_close_at", INSTANT),  # end of the first period that is not closed; null when nothing is left to close
    Column("closed_to", INSTANT, nullable=False),  # start of that period
    Column("life", JSONB(none_as_null=True)),  # schemas.subscription_life.Life; null where the row says all there is
    Column("terms_revision", Integer, nullable=False, server_default="0"),  # the last change in `subscription_changes`
    Column("revision", Integer, nullable=False, server_default="1"),
    created(),
    CheckConstraint(
        "status IN ('draft', 'scheduled', 'trialing', 'active', 'past_due', 'paused', 'cancelled', 'ended')",
        name="status",
    ),
    CheckConstraint("billing IN ('anniversary', 'calendar')", name="billing"),
    CheckConstraint("end_at IS NULL OR end_at >= start_at", name="ends_after_start"),
    Index("ix_subscriptions_customer_id", "customer_id"),
    Index("ix_subscriptions_next_close_at", "next_close_at", postgresql_where=text("next_close_at IS NOT NULL")),
)

subscription_changes = Table(
    "subscription_changes",
    metadata,
    Column("subscription_id", Text, ForeignKey("subscriptions.id"), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("key", Text, nullable=False),  # makes a change safe to repeat
    Column("record", JSONB, nullable=False),  # schemas.subscription_changes.ChangeRecord
    created(),
    PrimaryKeyConstraint("subscription_id", "revision"),
    UniqueConstraint("subscription_id", "key"),
)

# --- money ------------------------------------------------------------------------------------------------------------------

billing_profiles = Table(
    "billing_profiles",
    metadata,
    *scope_columns(),
    Column("profile", JSONB, nullable=False),  # schemas.billing_profiles.BillingProfileSpec
    Column("revision", Integer, nullable=False),
    created(),
    PrimaryKeyConstraint("tenant", "environment"),
)

invoice_numbers = Table(
    "invoice_numbers",
    metadata,
    *scope_columns(),
    Column("last_number", BigInteger, nullable=False),
    PrimaryKeyConstraint("tenant", "environment"),
)

invoices = Table(
    "invoices",
    metadata,
    Column("id", Text, primary_key=True),
    *scope_columns(),
    Column("number", Text, nullable=False),
    Column("customer_id", Text, ForeignKey("customers.id"), nullable=False),
    Column("subscription_id", Text, ForeignKey("subscriptions.id")),
    Column("status", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("period_start", INSTANT, nullable=False),
    Column("period_end", INSTANT, nullable=False),
    Column("subtotal", MONEY, nullable=False),
    Column("total", MONEY, nullable=False),
    Column("amount_due", MONEY, nullable=False),
    Column("cut", BigInteger, nullable=False),  # usage is all blocks with cut < this (protocol 10)
    Column("as_of", INSTANT, nullable=False),
    Column("issued_at", INSTANT, nullable=False),
    Column("customer_references", ARRAY(Text)),  # the names that its usage was counted by
    Column("parties", JSONB, nullable=False),  # who it is from and to, as printed (schemas.invoice_parties)
    Column("terms_revision", Integer),  # of the subscription's history: the last change that it was made with
    created(),
    UniqueConstraint("tenant", "environment", "number"),
    CheckConstraint("status IN ('draft', 'open', 'paid', 'void', 'uncollectible')", name="status"),
    Index("ix_invoices_customer_id", "customer_id"),
)

invoice_lines = Table(
    "invoice_lines",
    metadata,
    Column("invoice_id", Text, ForeignKey("invoices.id"), nullable=False),
    Column("position", Integer, nullable=False),
    Column("id", Text, nullable=False, unique=True),
    Column("kind", Text, nullable=False),
    Column("price_id", Text, nullable=False),
    Column("price_key", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("meter_id", Text),
    Column("generation", Integer),
    Column("quantity", QUANTITY, nullable=False),
    Column("exact_amount", MONEY, nullable=False),
    Column("amount", MONEY, nullable=False),
    Column("period_start", INSTANT, nullable=False),
    Column("period_end", INSTANT, nullable=False),
    Column("steps", JSONB, nullable=False),  # how the amount came about (schemas.prices)
    Column("adjusts", JSONB(none_as_null=True)),  # schemas.invoices.AdjustedUsage, of an adjustment line
    Column("spans", JSONB(none_as_null=True)),  # where usage counts in parts of the period: [[start, end], ...]
    PrimaryKeyConstraint("invoice_id", "position"),
)

billed_periods = Table(
    "billed_periods",
    metadata,
    Column("subscription_id", Text, ForeignKey("subscriptions.id"), nullable=False),
    Column("period_start", INSTANT, nullable=False),
    Column("period_end", INSTANT, nullable=False),
    Column("kind", Text, nullable=False),
    Column("sequence", Integer, nullable=False),  # 0 is the closing itself; adjustments count from 1
    Column("invoice_id", Text, ForeignKey("invoices.id"), nullable=False),
    created(),
    PrimaryKeyConstraint("subscription_id", "period_start", "period_end", "kind", "sequence"),
)

# Ended subscriptions that late events may still change: up to which cut, and when, they were looked at last.
late_looks = Table(
    "late_looks",
    metadata,
    Column("subscription_id", Text, ForeignKey("subscriptions.id"), primary_key=True),
    Column("cut", BigInteger, nullable=False),
    Column("looked_at", INSTANT, nullable=False),
    Index("ix_late_looks_looked_at", "looked_at"),
)

closing_failures = Table(
    "closing_failures",
    metadata,
    Column("subscription_id", Text, ForeignKey("subscriptions.id"), nullable=False),
    Column("period_start", INSTANT, nullable=False),
    Column("period_end", INSTANT, nullable=False),
    Column("code", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("attempts", Integer, nullable=False, server_default="1"),
    Column("failed_at", INSTANT, nullable=False),
    PrimaryKeyConstraint("subscription_id", "period_start", "period_end"),
)
