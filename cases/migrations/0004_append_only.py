"""Notes, histories and sightings can be written once and never again: the database itself refuses to change them."""

from django.db import migrations

TABLES = ("note", "case_event", "sighting")

GUARD = """
CREATE FUNCTION refuse_rewriting() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END $$;
""" + "".join(
    f"""
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON {table}
  FOR EACH ROW EXECUTE FUNCTION refuse_rewriting();"""
    for table in TABLES
)

UNGUARD = "".join(f"DROP TRIGGER append_only ON {table};" for table in TABLES) + "DROP FUNCTION refuse_rewriting();"


class Migration(migrations.Migration):
    dependencies = [("cases", "0003_the_desk")]

    operations = [migrations.RunSQL(GUARD, UNGUARD)]
