"""The insert-only tables: payments and their details, range-partitioned by id; labels; the two id sequences.

CACHE 1 on both sequences is part of the protocol: a block of ids reserved ahead would hide late ids from the sweep's fence.
"""

from django.db import migrations

TABLES = """
CREATE SEQUENCE transaction_id_seq AS bigint CACHE 1;
CREATE SEQUENCE label_id_seq AS bigint CACHE 1;

CREATE TABLE transaction (
    id bigint NOT NULL,
    occurred_at timestamptz NOT NULL,
    received_at timestamptz NOT NULL,
    amount bigint NOT NULL,
    amount_base bigint NOT NULL,
    balance_before bigint NOT NULL,
    customer bigint NOT NULL,
    account bigint NOT NULL,
    card bigint NOT NULL,
    device bigint NOT NULL,
    ip bigint NOT NULL,
    merchant bigint NOT NULL,
    terminal bigint NOT NULL,
    counterparty bigint NOT NULL,
    original bigint NOT NULL DEFAULT 0,
    original_at timestamptz NOT NULL DEFAULT '2000-01-01Z',
    ip_high bigint NOT NULL DEFAULT 0,
    ip_low bigint NOT NULL DEFAULT 0,
    client integer NOT NULL,
    import_job integer NOT NULL,
    customer_since integer NOT NULL,
    account_opened integer NOT NULL,
    session_age integer NOT NULL,
    bin integer NOT NULL DEFAULT 0,
    lat real NOT NULL,
    lon real NOT NULL,
    lane smallint NOT NULL,
    intake smallint NOT NULL,
    type smallint NOT NULL,
    stage smallint NOT NULL,
    direction smallint NOT NULL,
    channel smallint NOT NULL,
    instrument smallint NOT NULL,
    currency smallint NOT NULL,
    mcc smallint NOT NULL,
    customer_country smallint NOT NULL,
    account_country smallint NOT NULL,
    issuer_country smallint NOT NULL,
    merchant_country smallint NOT NULL,
    counterparty_country smallint NOT NULL,
    location_country smallint NOT NULL,
    segment smallint NOT NULL,
    scheme smallint NOT NULL,
    funding smallint NOT NULL,
    entry_mode smallint NOT NULL,
    authentication smallint NOT NULL,
    sca smallint NOT NULL,
    exemption smallint NOT NULL,
    three_ds smallint NOT NULL,
    cvv_result smallint NOT NULL,
    avs_result smallint NOT NULL,
    vop smallint NOT NULL,
    transfer_scheme smallint NOT NULL,
    device_flags smallint NOT NULL,
    birth_year smallint NOT NULL,
    external_id varchar(64) NOT NULL,
    customer_ref varchar(64) NOT NULL,
    PRIMARY KEY (id),
    CHECK (amount >= 0 AND amount < 1000000000000000)
) PARTITION BY RANGE (id);
CREATE INDEX transaction_by_customer ON transaction (customer, id);
CREATE INDEX transaction_by_time ON transaction USING brin (occurred_at) WITH (pages_per_range = 32);

CREATE TABLE transaction_detail (
    id bigint NOT NULL,
    document jsonb NOT NULL,
    PRIMARY KEY (id)
) PARTITION BY RANGE (id);

CREATE TABLE label (
    id bigint PRIMARY KEY,
    lane smallint NOT NULL,
    transaction_id bigint NOT NULL,
    verdict smallint NOT NULL CHECK (verdict BETWEEN 1 AND 3),
    source smallint NOT NULL CHECK (source BETWEEN 1 AND 4),
    fraud_type smallint NOT NULL,
    happened_at timestamptz NOT NULL,
    known_at timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL,
    author varchar(150) NOT NULL DEFAULT '',
    reason varchar(500) NOT NULL DEFAULT '',
    import_job bigint
);
CREATE INDEX label_of_transaction ON label (transaction_id);
CREATE INDEX label_of_lane ON label (lane, id);
CREATE INDEX label_of_import ON label (import_job) WHERE import_job IS NOT NULL;

CREATE FUNCTION extend_partitions(parent text, width bigint, upto bigint) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    low bigint;
    made integer := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(2, hashtext(parent));
    LOOP
        SELECT count(*) * width INTO low FROM pg_inherits WHERE inhparent = parent::regclass;
        EXIT WHEN low > upto;
        EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%s) TO (%s)',
                       parent || '_p' || lpad((low / width)::text, 4, '0'), parent, low, low + width);
        made := made + 1;
    END LOOP;
    RETURN made;
END $$;
SELECT extend_partitions('transaction', 16777216, 16777216);
SELECT extend_partitions('transaction_detail', 16777216, 16777216);
"""

DROP = """
DROP TABLE transaction, transaction_detail, label;
DROP SEQUENCE transaction_id_seq, label_id_seq;
DROP FUNCTION extend_partitions(text, bigint, bigint);
"""


class Migration(migrations.Migration):
    dependencies = [("transactions", "0001_initial")]
    operations = [migrations.RunSQL(TABLES, DROP)]
