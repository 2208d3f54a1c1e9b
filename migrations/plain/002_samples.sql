-- Values on any PostgreSQL: native partitions of one day (UTC), made on demand.

insert into layout values ('plain');

create table samples (
    "time"    timestamptz not null,
    series_id int         not null,
    value     double precision,
    text      text
) partition by range ("time");
comment on table samples is 'One row a value; partitions samples_YYYYMMDD hold one day (UTC) each.';

-- Makes the partition of a day. Attaching it does not lock out readers or
-- writers of the other days, which "create table … partition of" would.
create function make_samples_day(day date) returns void language plpgsql as $$
declare
    leaf text := 'samples_' || to_char(day, 'YYYYMMDD');
begin
    if to_regclass(leaf) is null then
        execute format('create table %I (like samples including all)', leaf);
        execute format('alter table samples attach partition %I for values from (%L) to (%L)',
            leaf, day::timestamp at time zone 'UTC', (day + 1)::timestamp at time zone 'UTC');
    end if;
end $$;

-- Gives a partition its one index: it finds a value, a series' newest, a device's
-- past, and, asked series by series, a stretch of time. A new partition has none
-- while it fills: a row costs three times as much with the index as without, and
-- to sort them all into it later costs less than half a row. Whoever needs the
-- index makes it first; the program's rollups make it where nobody did.
create function index_samples_day(leaf name) returns void language plpgsql as $$
begin
    perform pg_advisory_xact_lock(hashtext('millrace.samples_day'));
    execute format('create index if not exists %I on %I (series_id, "time")', leaf || '_series_time', leaf);
end $$;

-- The partitions that have it not yet.
create view unindexed_samples as
select c.relname as leaf, pg_relation_size(c.oid) as bytes
from pg_inherits i join pg_class c on c.oid = i.inhrelid
where i.inhparent = 'samples'::regclass and not exists (select from pg_index x where x.indrelid = c.oid);
