#!/bin/sh
# Run by the image at the first start: a role for Temporal, which makes its own databases.
set -eu
psql --set=ON_ERROR_STOP=1 --set=password="$TEMPORAL_POSTGRES_PASSWORD" \
    --username="$POSTGRES_USER" --dbname="$POSTGRES_DB" <<'SQL'
CREATE ROLE temporal LOGIN CREATEDB PASSWORD :'password';
SQL
