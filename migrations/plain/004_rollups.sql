-- Rollups on any PostgreSQL. They are exact whenever they are queried: what
-- changed since it was rolled up is named in rollup_dirty, by slots of ten
-- minutes, in the transaction that changed it; the views take rolled rows where
-- nothing changed, and the values themselves where something did.
--
-- rollup_dirty has no key on purpose: a writer only ever adds rows, so writers do
-- not wait for each other, and the roller deletes only the rows it saw, so a row
-- of a writer that commits meanwhile stays.

create table rollup_dirty (
    slot    timestamptz not null,
    touched timestamptz not null default now()
);
create index on rollup_dirty (slot);

create table rollup_1m (
    series_id int         not null,
    bucket    timestamptz not null,
    count     bigint not null,
    sum       double precision,
    min       double precision,
    max       double precision,
    first     double precision,
    last      double precision,
    primary key (series_id, bucket)
);
create index on rollup_1m (bucket);
create table rollup_1h (like rollup_1m including all);
create table rollup_1d (like rollup_1m including all);

create view dirty_slots as select distinct slot from rollup_dirty;
create view dirty_hours as select distinct date_trunc('hour', slot, 'UTC') as hour from rollup_dirty;
create view dirty_days as select distinct date_trunc('day', slot, 'UTC') as day from rollup_dirty;

-- The values of a slot, read series by series: that is what the index of samples
-- is for ("offset 0" keeps the planner at it), and so a condition on device or
-- metric leaves few series to read.
create view telemetry_1m as
select r.bucket, n.device, n.metric, r.count, r.sum, r.min, r.max, r.first, r.last, r.sum / r.count as avg
from rollup_1m r join series n on n.id = r.series_id
where not exists (select from rollup_dirty d where d.slot = date_bin('10 minutes', r.bucket, '2000-01-01Z'))
union all
select s.bucket, n.device, n.metric, s.count, s.sum, s.min, s.max, s.first, s.last, s.sum / s.count
from dirty_slots d cross join series n cross join lateral (
    select date_trunc('minute', v."time", 'UTC') as bucket,
        count(v.value) as count, sum(v.value) as sum, min(v.value) as min, max(v.value) as max,
        (array_agg(v.value order by v."time"))[1] as first,
        (array_agg(v.value order by v."time" desc))[1] as last
    from samples v
    where v.series_id = n.id and v."time" >= d.slot and v."time" < d.slot + interval '10 minutes' and v.value is not null
    group by 1 offset 0) s;

create view telemetry_1h as
select r.bucket, n.device, n.metric, r.count, r.sum, r.min, r.max, r.first, r.last, r.sum / r.count as avg
from rollup_1h r join series n on n.id = r.series_id
where not exists (
    select from rollup_dirty d where d.slot >= r.bucket and d.slot < r.bucket + interval '1 hour')
union all
select date_trunc('hour', m.bucket, 'UTC') as bucket, m.device, m.metric,
    sum(m.count)::bigint, sum(m.sum), min(m.min), max(m.max),
    (array_agg(m.first order by m.bucket))[1],
    (array_agg(m.last order by m.bucket desc))[1],
    sum(m.sum) / sum(m.count)::double precision
from dirty_hours d
join telemetry_1m m on m.bucket >= d.hour and m.bucket < d.hour + interval '1 hour'
group by 1, 2, 3;

create view telemetry_1d as
select r.bucket, n.device, n.metric, r.count, r.sum, r.min, r.max, r.first, r.last, r.sum / r.count as avg
from rollup_1d r join series n on n.id = r.series_id
where not exists (
    select from rollup_dirty d where d.slot >= r.bucket and d.slot < r.bucket + interval '24 hours')
union all
select date_trunc('day', h.bucket, 'UTC') as bucket, h.device, h.metric,
    sum(h.count)::bigint, sum(h.sum), min(h.min), max(h.max),
    (array_agg(h.first order by h.bucket))[1],
    (array_agg(h.last order by h.bucket desc))[1],
    sum(h.sum) / sum(h.count)::double precision
from dirty_days d
join telemetry_1h h on h.bucket >= d.day and h.bucket < d.day + interval '24 hours'
group by 1, 2, 3;

comment on view telemetry_1m is 'Numbers and booleans by minute: always exact, also for what came late.';
comment on view telemetry_1h is 'Numbers and booleans by hour (UTC): always exact, also for what came late.';
comment on view telemetry_1d is 'Numbers and booleans by day (UTC): always exact, also for what came late.';
