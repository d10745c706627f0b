"""Reports of suspicious activity: what was decided about each, append-only like every history."""

import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models

GUARD = """
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON filing FOR EACH ROW EXECUTE FUNCTION refuse_rewriting();"""
UNGUARD = "DROP TRIGGER append_only ON filing;"


class Migration(migrations.Migration):
    dependencies = [("cases", "0004_append_only"), migrations.swappable_dependency(settings.AUTH_USER_MODEL)]

    operations = [
        migrations.CreateModel(
            name="Filing",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                (
                    "decision",
                    models.CharField(
                        choices=[("preparing", "To be filed"), ("filed", "Filed"), ("not_filed", "Not to be filed")],
                        max_length=10,
                    ),
                ),
                ("detected_on", models.DateField(help_text="Starts the clock of the report.")),
                ("filed_on", models.DateField(blank=True, null=True)),
                (
                    "reference",
                    models.CharField(
                        blank=True, default="", help_text="The authority's number of it.", max_length=60
                    ),
                ),
                ("note", models.TextField(blank=True, default="")),
                ("at", models.DateTimeField(default=django.utils.timezone.now)),
                (
                    "author",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to=settings.AUTH_USER_MODEL
                    ),
                ),
                (
                    "case",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="filings", to="cases.case"
                    ),
                ),
            ],
            options={"db_table": "filing", "ordering": ["-id"]},
        ),
        migrations.AddConstraint(
            model_name="filing",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("decision", "filed"), _negated=True),
                    models.Q(("filed_on__isnull", False), models.Q(("reference", ""), _negated=True)),
                    _connector="OR",
                ),
                name="what_is_filed_has_a_day_and_a_number",
            ),
        ),
        migrations.AddIndex(
            model_name="filing", index=models.Index(fields=["case", "-id"], name="filings_of_case")
        ),
        migrations.RunSQL(GUARD, UNGUARD),
    ]
