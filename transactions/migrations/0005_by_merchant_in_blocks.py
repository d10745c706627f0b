"""Payments by merchant, through an index that costs the ingest a fraction of what a B-tree does.

Among millions of payments each entry of a B-tree goes to a page of its own, which no cache holds by then. A GIN index
appends entries to a list and sorts them in by the thousand. It knows no order, so that the newest payments of a large
shop could only be found by reading all it ever had; its keys are therefore the merchant *within a block* of 131,072 ids,
and who wants the newest asks the newest blocks first. `payments_of_merchant` is that search, and the only way in.
"""

from django.db import migrations

INDEX = """
CREATE INDEX transaction_of_merchant ON transaction USING gin ((ARRAY[merchant # (id >> 17)]))
  WITH (gin_pending_list_limit = 1024) WHERE merchant <> 0
"""
FUNCTION = """
CREATE FUNCTION payments_of_merchant(of_lane smallint, wanted bigint, most integer, newest boolean DEFAULT true)
RETURNS SETOF bigint LANGUAGE plpgsql STABLE SET enable_seqscan = off AS $$
DECLARE
  last_block bigint := (SELECT last_value >> 17 FROM transaction_id_seq);
  low bigint := 0;   -- blocks counted from the end that is asked for
  high bigint;
  width integer := 1;
  keys bigint[];
  n integer;
BEGIN
  WHILE most > 0 AND low <= last_block LOOP
    high := least(low + width - 1, last_block);
    keys := ARRAY(SELECT wanted # CASE WHEN newest THEN last_block - block ELSE block END
                    FROM generate_series(low, high) AS block);
    RETURN QUERY
      WITH found AS MATERIALIZED (
        SELECT t.id FROM transaction t
         WHERE ARRAY[t.merchant # (t.id >> 17)] && keys AND t.merchant <> 0 AND t.merchant = wanted AND t.lane = of_lane)
      SELECT found.id FROM found ORDER BY CASE WHEN newest THEN -found.id ELSE found.id END LIMIT most;
    GET DIAGNOSTICS n = ROW_COUNT;
    most := most - n;
    low := high + 1;
    width := least(width * 4, 256);
  END LOOP;
END $$;
"""


class Migration(migrations.Migration):
    dependencies = [("transactions", "0004_by_merchant")]
    operations = [
        migrations.RunSQL(
            "DROP INDEX transaction_by_merchant",
            "CREATE INDEX transaction_by_merchant ON transaction (merchant, id) WHERE merchant <> 0",
        ),
        migrations.RunSQL(INDEX, "DROP INDEX transaction_of_merchant"),
        migrations.RunSQL(FUNCTION, "DROP FUNCTION payments_of_merchant"),
    ]
