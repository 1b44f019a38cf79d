-- Never altered, only replaced by a later view over a later target.
CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.usage_windows_view{on_cluster} TO {database}.usage_windows AS
SELECT
    tenant,
    environment,
    m.meter AS meter,
    m.generation AS generation,
    customer,
    toStartOfMinute(toDateTime(time, 'UTC')) AS minute,
    m.dimensions AS dimensions,
    cut,
    count() AS matches,
    countIf(isNotNull(m.value)) AS values,
    sum(toDecimal256(ifNull(m.value, toDecimal128(0, 12)), 12)) AS total,
    min(m.value) AS lowest,
    max(m.value) AS highest,
    maxIf((time, logged_at, partition, offset, index, assumeNotNull(m.value)), isNotNull(m.value)) AS latest,
    uniqExactStateIf(m.unique_key, m.unique_key != '') AS uniques
FROM {database}.events AS e
ARRAY JOIN e.matches AS m
GROUP BY tenant, environment, meter, generation, customer, minute, dimensions, cut;
