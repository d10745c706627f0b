"""Bulk jobs; documents are kept as text, see `transactions.fields.DocumentField`."""

import django.utils.timezone
from django.db import migrations, models

import transactions.fields


class Migration(migrations.Migration):
    dependencies = [("transactions", "0002_facts")]
    operations = [
        migrations.RunSQL(
            "ALTER TABLE transaction_detail ALTER COLUMN document TYPE text",
            "ALTER TABLE transaction_detail ALTER COLUMN document TYPE jsonb USING document::jsonb",
            state_operations=[
                migrations.AlterField(
                    model_name="transactiondetail",
                    name="document",
                    field=transactions.fields.DocumentField(),
                ),
            ],
        ),
        migrations.AddField(
            model_name="apiclient",
            name="requests_per_minute",
            field=models.IntegerField(
                blank=True, help_text="Single requests; empty = the desk's own limit, 0 = none.", null=True
            ),
        ),
        migrations.CreateModel(
            name="BulkJob",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("lane", models.SmallIntegerField()),
                ("client", models.IntegerField()),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("lines", models.IntegerField(help_text="Lines that held something.")),
                ("accepted", models.IntegerField(default=0, help_text="Payments kept by this request.")),
                (
                    "known",
                    models.IntegerField(default=0, help_text="Payments that were there already, with the same body."),
                ),
                ("rejected", models.IntegerField(default=0)),
                (
                    "ids",
                    models.BinaryField(help_text="Line numbers and ids of the payments, see transactions/jobs.py."),
                ),
                (
                    "rejects",
                    models.BinaryField(
                        help_text="The problems of the other lines, compressed JSON; empty if there are none."
                    ),
                ),
            ],
            options={"db_table": "bulk_job"},
        ),
    ]
