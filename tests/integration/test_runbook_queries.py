"""Every PostgreSQL query of the runbook runs on the tables as they are: at three in the morning is no time to mend one."""

import re
from pathlib import Path

import psycopg

from tests.support.database import database

RUNBOOK = Path(__file__).parents[2] / "docs" / "runbook.md"
QUERY = re.compile(r"^```sql\n(.*?)^```", re.MULTILINE | re.DOTALL)


def test_every_query_of_the_runbook_runs(postgres_url: str) -> None:
    queries = QUERY.findall(RUNBOOK.read_text())
    assert queries
    with (
        database(postgres_url, "test_runbook") as settings,
        psycopg.connect(settings.url.reveal(), autocommit=True) as connection,
    ):
        for query in queries:
            connection.execute(query.encode())
