"""Re-screening requests."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("scoring", "0003_lists")]
    operations = []
