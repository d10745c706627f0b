"""Payments by merchant, for the investigator's page of a merchant and for compromised terminals.

Other entities are found through `entity_link` and the payments of the customers it names; for merchants it keeps no
pairs, since a shop has too many customers. Ids ascend, so that each merchant's payments are appended to one place of
the index; payments without a merchant are left out.
"""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("transactions", "0003_bulk")]
    operations = [
        migrations.RunSQL(
            "CREATE INDEX transaction_by_merchant ON transaction (merchant, id) WHERE merchant <> 0",
            "DROP INDEX transaction_by_merchant",
        )
    ]
