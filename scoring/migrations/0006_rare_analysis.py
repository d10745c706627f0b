"""What the lane writes is analysed as rarely as what the ingest writes, see `transactions`."""

from django.db import migrations

THERE = """
DO $$
DECLARE
    grown regclass;
BEGIN
    FOR grown IN SELECT inhrelid FROM pg_inherits WHERE inhparent = 'decision'::regclass
                 UNION ALL SELECT 'lane_log'::regclass LOOP
        EXECUTE format('ALTER TABLE %s {act}', grown);
    END LOOP;
END $$;
"""
SET = "SET (autovacuum_analyze_scale_factor = 0.5, autovacuum_analyze_threshold = 1000)"
RESET = "RESET (autovacuum_analyze_scale_factor, autovacuum_analyze_threshold)"


class Migration(migrations.Migration):
    dependencies = [("scoring", "0005_list_entries"), ("transactions", "0006_rare_analysis")]
    operations = [migrations.RunSQL(THERE.replace("{act}", SET), THERE.replace("{act}", RESET))]
