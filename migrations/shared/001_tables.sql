-- What both layouts share: who speaks, what was refused, and how far the log is stored.

create table layout (
    name text not null
);
comment on table layout is 'Which layout of the schema this database has: plain or timescale. One row.';

-- Names are compared byte by byte (collate "C"), as the canonical form orders them.
create table series (
    id     int  generated always as identity primary key,
    device text collate "C" not null,
    metric text collate "C" not null,
    unique (device, metric)
);
comment on table series is 'One row for each metric of each device; samples refer to it by id.';

create table devices (
    name       text collate "C" primary key,
    created    timestamptz not null default now(),
    seen       timestamptz,
    disabled   boolean     not null default false,
    token_hash bytea
);
comment on table devices is 'Every device that was added, or ever spoke.';
comment on column devices.seen is 'When it was last heard of (time of receipt); exact to a minute.';
comment on column devices.token_hash is 'SHA-256 of the device''s token; null: it has none.';

create table dead_letters (
    id          bigint generated always as identity primary key,
    log_topic   text        not null,
    log_id      bigint      not null,
    "partition" int         not null,
    "offset"    bigint      not null,
    rx          timestamptz not null,
    reason      text        not null,
    detail      text        not null,
    source      text        not null default '',
    topic       text        not null default '',
    client      text        not null default '',
    device      text collate "C" not null default '',
    payload     bytea       not null,
    retried     timestamptz,
    unique (log_id, "partition", "offset")
);
create index on dead_letters (reason, id);
create index on dead_letters (device, id);
comment on table dead_letters is 'What could not be accepted, byte for byte, and why. millrace dead list|show|retry.';
comment on column dead_letters.log_topic is 'The Kafka topic in which the record stands, at partition and offset.';
comment on column dead_letters.rx is 'Time of receipt.';
comment on column dead_letters.topic is 'The MQTT topic or the HTTP path it came by.';
comment on column dead_letters.retried is 'When it was last sent again; null: never.';

create table log_offsets (
    topic        text   not null,
    log_id       bigint not null,
    "partition"  int    not null,
    epoch        bigint not null default 1,
    first_offset bigint not null default -1,
    next_offset  bigint not null default -1,
    records      bigint not null default 0,
    stored       bigint not null default 0,
    duplicates   bigint not null default 0,
    dead         bigint not null default 0,
    missed       bigint not null default 0,
    updated      timestamptz not null default now(),
    primary key (log_id, "partition")
);
comment on table log_offsets is 'The fence: how far each partition of the log is stored, written in the transaction that stores it.';
comment on column log_offsets.log_id is 'Identity of the topic across deletions; the first 8 bytes of its Kafka topic id.';
comment on column log_offsets.epoch is 'Counts claims: a writer that holds an older one commits nothing.';
comment on column log_offsets.first_offset is 'Of the first record that was read; -1: none yet.';
comment on column log_offsets.next_offset is 'Of the next record to store; -1: none yet.';
comment on column log_offsets.records is 'stored + duplicates + dead.';
comment on column log_offsets.missed is 'Records the log had lost before they could be read.';
