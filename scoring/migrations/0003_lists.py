"""Lists, kill switches, and proposals about lists."""

import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models

import transactions.fields


class Migration(migrations.Migration):
    dependencies = [
        ("scoring", "0002_log"),
        ("transactions", "0002_facts"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="List",
            fields=[
                ("id", models.AutoField(primary_key=True, serialize=False)),
                ("name", models.SlugField(help_text="As rules call it.", max_length=40)),
                (
                    "kind",
                    models.CharField(
                        choices=[("block", "Block"), ("allow", "Allow"), ("watch", "Watch")], max_length=5
                    ),
                ),
                (
                    "subject",
                    models.CharField(
                        choices=[
                            ("customer", "Customer"),
                            ("card", "Card"),
                            ("account", "Account"),
                            ("device", "Device"),
                            ("ip", "IP address"),
                            ("merchant", "Merchant"),
                            ("counterparty", "Payee"),
                            ("country", "Country"),
                            ("bin", "BIN"),
                        ],
                        max_length=12,
                    ),
                ),
                (
                    "outcome",
                    transactions.fields.CodeField(
                        "OUTCOME",
                        blank=True,
                        default="",
                        help_text="Of a block list: the least that happens to a payment it hits.",
                    ),
                ),
                (
                    "skips_scoring",
                    models.BooleanField(default=False, help_text="Of an allow list: a hit is approved unseen."),
                ),
                ("description", models.CharField(blank=True, default="", max_length=300)),
                ("owner", models.CharField(blank=True, default="", max_length=150)),
                ("created_by", models.CharField(max_length=150)),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now)),
            ],
            options={
                "ordering": ["name"],
                "permissions": [
                    ("propose_list", "Can propose entries of block and allow lists"),
                    ("approve_list", "Can approve entries of block and allow lists as second person"),
                    ("watch_list", "Can add to and remove from watch lists"),
                ],
            },
        ),
        migrations.CreateModel(
            name="ListEntry",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                (
                    "value",
                    models.CharField(help_text="As people read it; of a card's token only the ends.", max_length=64),
                ),
                (
                    "key",
                    models.BigIntegerField(default=0, help_text="Entity key, country code or BIN; 0 for a network."),
                ),
                ("high", models.BigIntegerField(default=0, help_text="A network's address as 128 bits, IPv4 mapped.")),
                ("low", models.BigIntegerField(default=0)),
                ("prefix", models.SmallIntegerField(default=0, help_text="Leading bits of the 128 that count.")),
                ("valid_from", models.DateTimeField()),
                ("expires_at", models.DateTimeField(blank=True, null=True)),
                ("reason", models.CharField(max_length=200)),
                ("author", models.CharField(max_length=150)),
                ("origin", models.CharField(default="desk", help_text="desk, file, api, case 1204 …", max_length=80)),
                ("added_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("version", models.IntegerField(help_text="The lane's lists_version that brought it.")),
            ],
            options={
                "ordering": ["-id"],
            },
        ),
        migrations.CreateModel(
            name="SwitchAct",
            fields=[
                ("id", models.AutoField(primary_key=True, serialize=False)),
                ("act", models.CharField(choices=[("pulled", "Pulled"), ("restored", "Restored")], max_length=8)),
                ("reason", models.CharField(max_length=500)),
                ("at", models.DateTimeField(default=django.utils.timezone.now)),
            ],
            options={
                "ordering": ["-id"],
                "permissions": [("pull_switch", "Can pull and put back kill switches")],
            },
        ),
        migrations.RemoveConstraint(
            model_name="proposal",
            name="a_proposal_names_its_subject",
        ),
        migrations.AddField(
            model_name="proposal",
            name="proposed_via",
            field=models.CharField(blank=True, default="", help_text="The API client that asked.", max_length=80),
        ),
        migrations.AddField(
            model_name="release",
            name="pulled",
            field=models.JSONField(
                blank=True,
                default=dict,
                help_text='Kill switches: {"model": true, "rules": [rule id, …]}; {} = none pulled.',
            ),
        ),
        migrations.AlterField(
            model_name="proposal",
            name="kind",
            field=models.CharField(
                choices=[("policy", "Policy"), ("rule", "Rule"), ("model", "Model"), ("list", "List")], max_length=6
            ),
        ),
        migrations.AlterField(
            model_name="proposal",
            name="proposed_by",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to=settings.AUTH_USER_MODEL,
            ),
        ),
        migrations.AlterField(
            model_name="reasoncode",
            name="source",
            field=models.CharField(
                choices=[("rule", "rule"), ("model", "model"), ("policy", "policy"), ("list", "list")], max_length=8
            ),
        ),
        migrations.AlterField(
            model_name="release",
            name="lists_version",
            field=models.IntegerField(default=0, help_text="Entries and removals up to it count."),
        ),
        migrations.AddField(
            model_name="list",
            name="lane",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="lists", to="transactions.lane"
            ),
        ),
        migrations.AddField(
            model_name="proposal",
            name="list",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="proposals",
                to="scoring.list",
            ),
        ),
        migrations.AddConstraint(
            model_name="proposal",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("kind", "policy"), ("policy__isnull", False)),
                    models.Q(("kind", "rule"), ("rule_version__isnull", False)),
                    models.Q(("kind", "model"), ("model__isnull", False)),
                    models.Q(("kind", "list"), ("list__isnull", False)),
                    _connector="OR",
                ),
                name="a_proposal_names_its_subject",
            ),
        ),
        migrations.AddConstraint(
            model_name="proposal",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("proposed_by__isnull", False),
                    models.Q(("kind", "list"), models.Q(("proposed_via", ""), _negated=True)),
                    _connector="OR",
                ),
                name="somebody_proposed_it",
            ),
        ),
        migrations.CreateModel(
            name="ListRemoval",
            fields=[
                (
                    "entry",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.PROTECT,
                        primary_key=True,
                        related_name="removal",
                        serialize=False,
                        to="scoring.listentry",
                    ),
                ),
                ("removed_at", models.DateTimeField()),
                ("removed_by", models.CharField(max_length=150)),
                ("reason", models.CharField(max_length=200)),
                ("version", models.IntegerField(help_text="The lane's lists_version that took it off.")),
            ],
        ),
        migrations.AddField(
            model_name="listentry",
            name="list",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="entries", to="scoring.list"
            ),
        ),
        migrations.AddField(
            model_name="listentry",
            name="proposal",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="entries",
                to="scoring.proposal",
            ),
        ),
        migrations.AddField(
            model_name="switchact",
            name="by",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="+", to=settings.AUTH_USER_MODEL
            ),
        ),
        migrations.AddField(
            model_name="switchact",
            name="lane",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="switch_acts", to="transactions.lane"
            ),
        ),
        migrations.AddField(
            model_name="switchact",
            name="release",
            field=models.OneToOneField(
                on_delete=django.db.models.deletion.PROTECT, related_name="switch_act", to="scoring.release"
            ),
        ),
        migrations.AddField(
            model_name="switchact",
            name="rule",
            field=models.ForeignKey(
                blank=True,
                help_text="None: the model.",
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                to="scoring.rule",
            ),
        ),
        migrations.AddConstraint(
            model_name="list",
            constraint=models.UniqueConstraint(fields=("lane", "name"), name="one_list_of_a_name"),
        ),
        migrations.AddConstraint(
            model_name="list",
            constraint=models.CheckConstraint(
                condition=models.Q(("skips_scoring", False), ("kind", "allow"), _connector="OR"),
                name="only_allow_lists_skip",
            ),
        ),
        migrations.AddField(
            model_name="listremoval",
            name="proposal",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="removals",
                to="scoring.proposal",
            ),
        ),
        migrations.AddIndex(
            model_name="listentry",
            index=models.Index(fields=["list", "-id"], name="entries_of_a_list"),
        ),
        migrations.AddIndex(
            model_name="listentry",
            index=models.Index(fields=["list", "key"], name="entries_of_a_subject"),
        ),
        migrations.AddConstraint(
            model_name="listentry",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("expires_at__isnull", True), ("expires_at__gt", models.F("valid_from")), _connector="OR"
                ),
                name="an_entry_lasts",
            ),
        ),
        migrations.AddIndex(
            model_name="switchact",
            index=models.Index(fields=["lane", "rule", "-id"], name="acts_of_a_switch"),
        ),
    ]
