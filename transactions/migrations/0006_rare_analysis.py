"""Tables that only grow are analysed each time they have grown by half, not by a tenth.

What their rows look like hardly changes, and each analysis of a table with fifty columns takes a core for about a second:
a partition that fills up saw a hundred of them, right beside the payments that wait for a decision.
"""

from django.db import migrations

THRIFT = "autovacuum_analyze_scale_factor = 0.5, autovacuum_analyze_threshold = 1000"
GROWING = """
CREATE OR REPLACE FUNCTION extend_partitions(parent text, width bigint, upto bigint)
RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    low bigint;
    made integer := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(2, hashtext(parent));
    LOOP
        SELECT count(*) * width INTO low FROM pg_inherits WHERE inhparent = parent::regclass;
        EXIT WHEN low > upto;
        EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%s) TO (%s) {thrift}',
                       parent || '_p' || lpad((low / width)::text, 4, '0'), parent, low, low + width);
        made := made + 1;
    END LOOP;
    RETURN made;
END $$;
"""
THERE = """
DO $$
DECLARE
    grown regclass;
BEGIN
    FOR grown IN SELECT inhrelid FROM pg_inherits
                  WHERE inhparent IN ('transaction'::regclass, 'transaction_detail'::regclass)
                 UNION ALL SELECT 'transaction_key'::regclass LOOP
        EXECUTE format('ALTER TABLE %s {act}', grown);
    END LOOP;
END $$;
"""
RESET = "RESET (autovacuum_analyze_scale_factor, autovacuum_analyze_threshold)"


class Migration(migrations.Migration):
    dependencies = [("transactions", "0005_by_merchant_in_blocks")]
    operations = [
        migrations.RunSQL(
            GROWING.replace("{thrift}", f"WITH ({THRIFT})"),
            GROWING.replace("{thrift}", ""),
        ),
        migrations.RunSQL(THERE.replace("{act}", f"SET ({THRIFT})"), THERE.replace("{act}", RESET)),
    ]
