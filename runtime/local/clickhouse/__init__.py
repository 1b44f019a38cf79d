"""ClickHouse for one machine: the engine as a library (chDB) behind ClickHouse's HTTP interface.

`python -m runtime.local.clickhouse --data DIR --port PORT`. Clients cannot tell it from a server, for what we use:
statements with parameters and settings, streamed results, inserts, errors. Sessions, users and external data are refused.
"""
