-- The view everybody queries.

create view telemetry as
select s."time", r.device, r.metric, s.value, s.text
from samples s join series r on r.id = s.series_id;
comment on view telemetry is 'Every stored value. value holds numbers, text holds strings; a boolean has both (1, ''true'').';
