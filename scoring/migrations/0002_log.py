"""The lane's own tables: decisions (range-partitioned by id), the log, and first sightings of entity pairs."""

from django.db import migrations

TABLES = """
CREATE TABLE decision (
    id bigint NOT NULL,
    transaction_id bigint NOT NULL,
    seq bigint NOT NULL,
    decided_at timestamptz NOT NULL,
    latency integer NOT NULL,
    release_id integer NOT NULL,
    probability double precision NOT NULL,
    margin double precision NOT NULL,
    lane smallint NOT NULL,
    screening smallint NOT NULL,
    outcome smallint NOT NULL,
    score smallint NOT NULL,
    band smallint NOT NULL,
    degraded smallint NOT NULL,
    kernel_version smallint NOT NULL,
    basis smallint NOT NULL DEFAULT 0,
    list_hits bytea NOT NULL DEFAULT '',
    rule_hits bytea NOT NULL,
    features bytea NOT NULL,
    PRIMARY KEY (id),
    CHECK (id = transaction_id * 64 + screening AND screening BETWEEN 1 AND 63)
) PARTITION BY RANGE (id);
CREATE INDEX decision_by_time ON decision USING brin (decided_at) WITH (pages_per_range = 32);
SELECT extend_partitions('decision', 16777216::bigint * 64, 16777216::bigint * 64);

CREATE TABLE lane_log (
    lane smallint NOT NULL,
    seq bigint NOT NULL,
    epoch integer NOT NULL,
    token uuid NOT NULL,
    kind smallint NOT NULL CHECK (kind BETWEEN 1 AND 4),
    transaction_id bigint,
    label_id bigint,
    old smallint,
    new smallint,
    PRIMARY KEY (lane, seq),
    CHECK ((kind = 3) = (label_id IS NOT NULL)),
    CHECK ((kind = 4) = (transaction_id IS NULL))
);

CREATE UNIQUE INDEX lane_log_label ON lane_log (label_id) WHERE label_id IS NOT NULL;

CREATE TABLE entity_link (
    lane smallint NOT NULL,
    left_kind smallint NOT NULL,
    left_key bigint NOT NULL,
    right_kind smallint NOT NULL,
    right_key bigint NOT NULL,
    transaction_id bigint NOT NULL,
    seen_at timestamptz NOT NULL,
    PRIMARY KEY (lane, left_kind, left_key, right_kind, right_key)
);
CREATE INDEX entity_link_backwards ON entity_link (lane, right_kind, right_key);
"""


class Migration(migrations.Migration):
    dependencies = [("scoring", "0001_initial"), ("transactions", "0002_facts")]
    operations = [migrations.RunSQL(TABLES, "DROP TABLE decision, lane_log, entity_link")]
