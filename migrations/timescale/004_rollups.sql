-- Rollups on TimescaleDB: continuous aggregates, each on top of the one below,
-- in real time (what is newer than the last refresh is computed when queried).

create materialized view rollup_1m
with (timescaledb.continuous, timescaledb.materialized_only = false) as
select series_id, time_bucket('1 minute', "time") as bucket,
    count(value) as count, sum(value) as sum, min(value) as min, max(value) as max,
    first(value, "time") as first, last(value, "time") as last
from samples where value is not null
group by 1, 2 with no data;

create materialized view rollup_1h
with (timescaledb.continuous, timescaledb.materialized_only = false) as
select series_id, time_bucket('1 hour', bucket) as bucket,
    sum(count)::bigint as count, sum(sum) as sum, min(min) as min, max(max) as max,
    first(first, bucket) as first, last(last, bucket) as last
from rollup_1m group by 1, 2 with no data;

create materialized view rollup_1d
with (timescaledb.continuous, timescaledb.materialized_only = false) as
select series_id, time_bucket('1 day', bucket) as bucket,
    sum(count)::bigint as count, sum(sum) as sum, min(min) as min, max(max) as max,
    first(first, bucket) as first, last(last, bucket) as last
from rollup_1h group by 1, 2 with no data;

-- No start: what came late, however old, is taken up by the next refresh, which
-- looks only at what was invalidated.
select add_continuous_aggregate_policy('rollup_1m', start_offset => null, end_offset => interval '2 minutes', schedule_interval => interval '30 seconds');
select add_continuous_aggregate_policy('rollup_1h', start_offset => null, end_offset => interval '1 hour', schedule_interval => interval '1 minute');
select add_continuous_aggregate_policy('rollup_1d', start_offset => null, end_offset => interval '1 day', schedule_interval => interval '5 minutes');

create view telemetry_1m as
select r.bucket, n.device, n.metric, r.count, r.sum, r.min, r.max, r.first, r.last, r.sum / r.count as avg
from rollup_1m r join series n on n.id = r.series_id;

create view telemetry_1h as
select r.bucket, n.device, n.metric, r.count, r.sum, r.min, r.max, r.first, r.last, r.sum / r.count as avg
from rollup_1h r join series n on n.id = r.series_id;

create view telemetry_1d as
select r.bucket, n.device, n.metric, r.count, r.sum, r.min, r.max, r.first, r.last, r.sum / r.count as avg
from rollup_1d r join series n on n.id = r.series_id;

comment on view telemetry_1m is 'Numbers and booleans by minute.';
comment on view telemetry_1h is 'Numbers and booleans by hour (UTC).';
comment on view telemetry_1d is 'Numbers and booleans by day (UTC).';
