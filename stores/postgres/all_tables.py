"""The metadata with every table in it: what migrations build."""

from stores.postgres import log_tables, tables
from stores.postgres.metadata import metadata

__all__ = ["log_tables", "metadata", "tables"]
