-- Values on any PostgreSQL: native partitions of one day (UTC), made on demand.

insert into layout values ('plain');

create table samples (
    "time"    timestamptz not null,
    series_id int         not null,
    value     double precision,
    text      text
) partition by range ("time");
comment on table samples is 'One row a value; partitions samples_YYYYMMDD hold one day (UTC) each.';

-- The one index: finds a value, a series' newest, a device's past, and, asked
-- series by series, a stretch of time. An index by time as well would cost each
-- row a fifth more.
create index on samples (series_id, "time");

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
