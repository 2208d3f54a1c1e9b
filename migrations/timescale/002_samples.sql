-- Values on TimescaleDB: a hypertable in chunks of one day, packed into the columnstore.

insert into layout values ('timescale');

create table samples (
    "time"    timestamptz not null,
    series_id int         not null,
    value     double precision,
    text      text
);
comment on table samples is 'One row a value.';

select create_hypertable('samples', by_range('time', interval '1 day'), create_default_indexes => false);
-- Not unique: a unique index turns the direct path into the columnstore off.
create index on samples (series_id, "time" desc);
create index on samples ("time");

alter table samples set (
    timescaledb.enable_columnstore,
    timescaledb.segmentby = 'series_id',
    timescaledb.orderby = 'time desc'
);
call add_columnstore_policy('samples', after => interval '2 days');
