"""Re-screening requests, where decisions without the model are found, and from when on a resolution is final."""

import django.contrib.postgres.fields
import django.db.models.deletion
import django.db.models.functions.datetime
import django.utils.timezone
from django.db import migrations, models

# Empty while the model works: it costs the hot path nothing but the look at two columns.
DEGRADED = "CREATE INDEX decision_degraded ON decision (lane, seq) WHERE degraded = 1 AND screening = 1"


class Migration(migrations.Migration):
    dependencies = [("scoring", "0003_lists"), ("transactions", "0002_facts")]
    operations = [
        migrations.CreateModel(
            name="Rescreening",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("reason", models.CharField(max_length=500)),
                ("author", models.CharField(max_length=150)),
                (
                    "is_automatic",
                    models.BooleanField(default=False, help_text="Asked by the clock, for degraded decisions."),
                ),
                (
                    "payments",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.BigIntegerField(),
                        blank=True,
                        help_text="Ids, ascending; else a filter.",
                        null=True,
                        size=None,
                    ),
                ),
                (
                    "filter",
                    models.JSONField(blank=True, default=dict, help_text='{"degraded": [cause, …], "release": id}.'),
                ),
                (
                    "after",
                    models.BigIntegerField(
                        default=0, help_text="All up to here is done: ids of payments, or seqs of a filter."
                    ),
                ),
                ("upto", models.BigIntegerField(default=0, help_text="The last one, fixed when it was asked.")),
                ("requested_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("finished_at", models.DateTimeField(blank=True, null=True)),
                ("judged", models.BigIntegerField(default=0)),
                (
                    "changed",
                    models.BigIntegerField(default=0, help_text="Judged to another outcome than before."),
                ),
                ("alerts", models.BigIntegerField(default=0, help_text="Newly raised.")),
                ("left_out", models.JSONField(blank=True, default=dict, help_text="{why: how many}.")),
                (
                    "lane",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="rescreenings",
                        to="transactions.lane",
                    ),
                ),
                (
                    "release",
                    models.ForeignKey(
                        blank=True,
                        help_text="Judged by last.",
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="scoring.release",
                    ),
                ),
            ],
            options={
                "db_table": "rescreening",
                "ordering": ["-id"],
                "permissions": [("rescreen", "Can have payments judged again")],
            },
        ),
        migrations.CreateModel(
            name="Rescreened",
            fields=[
                (
                    "decision",
                    models.OneToOneField(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        primary_key=True,
                        related_name="rescreened",
                        serialize=False,
                        to="scoring.decision",
                    ),
                ),
                ("transaction_id", models.BigIntegerField()),
                (
                    "request",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="decisions",
                        to="scoring.rescreening",
                    ),
                ),
            ],
            options={"db_table": "rescreened"},
        ),
        migrations.AddIndex(
            model_name="rescreening",
            index=models.Index(
                condition=models.Q(("finished_at__isnull", True)), fields=["id"], name="rescreening_open"
            ),
        ),
        migrations.AddIndex(
            model_name="rescreening",
            index=models.Index(
                condition=models.Q(("is_automatic", True)), fields=["lane", "-upto"], name="rescreening_mark"
            ),
        ),
        migrations.AddConstraint(
            model_name="rescreened",
            constraint=models.UniqueConstraint(fields=("request", "transaction_id"), name="once_for_each_request"),
        ),
        migrations.AddField(
            model_name="holdresolution",
            name="final_at",
            field=models.DateTimeField(
                db_default=django.db.models.functions.datetime.Now(),
                default=django.utils.timezone.now,
                help_text="Before it, nobody outside is told: it may be taken back.",
            ),
        ),
        migrations.RunSQL(DEGRADED, "DROP INDEX decision_degraded"),
    ]
