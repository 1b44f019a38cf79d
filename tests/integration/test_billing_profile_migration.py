"""Invoices that were made before parties were kept print afterwards what they printed before."""

from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import text

from stores.postgres import migrations
from stores.postgres.migrations import migrate
from tests.support.database import database

REVISION = "0004"
MADE = """
    INSERT INTO customers (id, tenant, environment, external_id, name, timezone, known_in) VALUES
        ('cus_1', 'ten', 'live', 'acme', 'Acme', 'UTC', 1), ('cus_2', 'ten', 'live', 'bolt', '', 'Asia/Tokyo', 1);
    INSERT INTO plans (id, tenant, environment, key, name, currency) VALUES ('pla_1', 'ten', 'live', 'pro', '', 'EUR');
    INSERT INTO plan_versions (id, plan_id, version, status) VALUES ('plv_1', 'pla_1', 2, 'published');
    INSERT INTO prices (id, tenant, environment, plan_version_id, position, key, name, definition) VALUES
        ('pri_1', 'ten', 'live', 'plv_1', 0, 'fee', '', '{}');
    INSERT INTO subscriptions (
        id, tenant, environment, customer_id, plan_version_id, status, timezone, start_at, anchor_at, closed_to
    ) VALUES ('sub_1', 'ten', 'live', 'cus_1', 'plv_1', 'active', 'Europe/Berlin', now(), now(), now());
    INSERT INTO invoices (
        id, tenant, environment, number, customer_id, subscription_id, status, currency, period_start, period_end,
        subtotal, total, amount_due, cut, as_of, issued_at
    ) VALUES
        ('inv_1', 'ten', 'live', 'INV-1', 'cus_1', 'sub_1', 'open', 'EUR', now(), now(), 1, 1, 1, 1, now(), now()),
        ('inv_2', 'ten', 'live', 'INV-2', 'cus_2', NULL, 'open', 'EUR', now(), now(), 0, 0, 0, 1, now(), now());
    INSERT INTO invoice_lines (
        invoice_id, position, id, kind, price_id, price_key, description, quantity, exact_amount, amount,
        period_start, period_end, steps
    ) VALUES ('inv_1', 0, 'lin_1', 'fee', 'pri_1', 'fee', '', 1, 1, 1, now(), now(), '[]');
"""


def test_invoices_of_before_keep_the_names_they_had(postgres_url: str) -> None:
    with database(postgres_url, "billing_profile_migration", migrated=False) as settings:
        config = migrations._config()
        before = ScriptDirectory.from_config(config).get_revision(REVISION).down_revision
        engine = migrations._engine(settings)
        try:
            with engine.begin() as connection:
                config.attributes["connection"] = connection
                command.upgrade(config, str(before))
                connection.exec_driver_sql(MADE)
            migrate(settings)
            with engine.begin() as connection:
                found = connection.execute(text("SELECT id, parties FROM invoices ORDER BY id")).all()
                contacts = connection.execute(text("SELECT address, email, tax_id FROM customers")).all()
        finally:
            engine.dispose()
    assert {row.id: row.parties for row in found} == {
        "inv_1": {
            "seller": {"name": "ten"},
            "customer": {"name": "Acme"},
            "timezone": "Europe/Berlin",
            "plan": "pro, version 2",
        },
        "inv_2": {"seller": {"name": "ten"}, "customer": {"name": "bolt"}, "timezone": "Asia/Tokyo", "plan": ""},
    }
    assert [tuple(row) for row in contacts] == [([], None, None)] * 2
