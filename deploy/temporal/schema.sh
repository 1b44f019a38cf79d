#!/bin/sh
# Both databases of Temporal, brought to the release of this image. The tool takes host, user and password from SQL_*.
set -eu
versions=/etc/temporal/schema/postgresql/v12
for pair in temporal:temporal temporal_visibility:visibility; do
    database=${pair%%:*}
    schema=${pair##*:}
    temporal-sql-tool --db "$database" create
    temporal-sql-tool --db "$database" setup-schema --version 0.0
    temporal-sql-tool --db "$database" update-schema --schema-dir "$versions/$schema/versioned"
done
