"""List entries are called so; nothing else changes."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("scoring", "0004_screening")]

    operations = [
        migrations.AlterModelOptions(
            name="listentry", options={"ordering": ["-id"], "verbose_name_plural": "list entries"}
        )
    ]
