"""Who works here, and the roll-ups that the dashboards read instead of scanning payments and cases."""

from __future__ import annotations

from django.contrib.auth.models import AbstractUser
from django.db import models


class User(AbstractUser):
    """A person with a log-in. Our own from the first migration, so that it can grow."""

    time_zone = models.CharField(max_length=40, default="UTC")

    @property
    def initials(self) -> str:
        """Two letters for the avatar."""
        names = [self.first_name, self.last_name] if self.first_name else [self.username]
        return "".join(name[:1] for name in names if name).upper()[:2]


class TallyCursor(models.Model):
    """How far the roll-ups have read one source: a lane's log by seq, labels and case events by id.

    Ids are drawn before they are committed, so a position by id only moves to a fence that every writer has passed.
    """

    source = models.CharField(max_length=40, primary_key=True)
    position = models.BigIntegerField(default=0)
    fence = models.BigIntegerField(default=0)
    fence_xid = models.BigIntegerField(default=0)
    fence_at = models.DateTimeField(null=True)
    as_of = models.DateTimeField(null=True, help_text="Everything committed before then is counted.")

    class Meta:
        db_table = "tally_cursor"

    def __str__(self) -> str:
        return f"{self.source} at {self.position}"


class DecisionTally(models.Model):
    """Payments judged in an hour or a day (UTC), along one cut, with what their labels say now.

    `cut` and the meaning of `key` and `outcome` are in `fraudsite/tallies.py`. Amounts are minor units of the base
    currency.
    """

    pk = models.CompositePrimaryKey("cut", "grain", "at", "lane", "key", "outcome")
    cut = models.SmallIntegerField()
    grain = models.CharField(max_length=1, help_text="h or d.")
    at = models.DateTimeField()
    lane = models.SmallIntegerField()
    key = models.BigIntegerField()
    outcome = models.SmallIntegerField()
    payments = models.BigIntegerField(default=0)
    value = models.BigIntegerField(default=0)
    fraud = models.BigIntegerField(default=0)
    fraud_value = models.BigIntegerField(default=0)
    legitimate = models.BigIntegerField(default=0)
    legitimate_value = models.BigIntegerField(default=0)

    class Meta:
        db_table = "decision_tally"

    def __str__(self) -> str:
        return f"{self.cut} {self.key}: {self.payments}"


class TallySheet(models.Model):
    """What one commit of a lane adds to the tallies, until the beat has added it; see `fraudsite/tally_sheets.py`."""

    pk = models.CompositePrimaryKey("lane", "upto")
    lane = models.SmallIntegerField()
    since = models.BigIntegerField(help_text="The lane's seq before the commit.")
    upto = models.BigIntegerField(help_text="Its seq after it.")
    release_id = models.IntegerField()
    first_id = models.BigIntegerField(help_text="The least id of a payment in it.")
    last_id = models.BigIntegerField()
    lines = models.BinaryField(help_text="Sums along each cut.")
    bringing_back = models.BinaryField(help_text="Ids of refunds and reversals that name another payment.")

    class Meta:
        db_table = "tally_sheet"

    def __str__(self) -> str:
        return f"lane {self.lane}, {self.since} to {self.upto}"


class LabelledPayment(models.Model):
    """A judged payment with the label that counts, as the tallies counted it: what they take back when it changes."""

    transaction_id = models.BigIntegerField(primary_key=True)
    lane = models.SmallIntegerField()
    verdict = models.SmallIntegerField(help_text="1 legitimate, 2 fraud.")
    at = models.DateTimeField()
    channel = models.SmallIntegerField()
    country = models.SmallIntegerField()
    merchant = models.BigIntegerField()
    device = models.BigIntegerField()
    customer = models.BigIntegerField()
    outcome = models.SmallIntegerField()
    score = models.SmallIntegerField()
    fraud_type = models.SmallIntegerField()
    amount_base = models.BigIntegerField()
    resolution = models.SmallIntegerField(default=0, help_text="Of a held payment: 1 released, 2 blocked.")
    returned = models.BigIntegerField(default=0, help_text="Came back by refunds and reversals; base currency.")

    class Meta:
        db_table = "labelled_payment"
        indexes = [
            models.Index(
                fields=["at"],
                include=["lane", "merchant", "device", "outcome", "resolution", "amount_base"],
                name="labelled_fraud_by_time",
                condition=models.Q(verdict=2),
            ),
            models.Index(fields=["merchant", "-at"], name="labelled_fraud_by_merchant", condition=models.Q(verdict=2)),
            models.Index(fields=["device", "-at"], name="labelled_fraud_by_device", condition=models.Q(verdict=2)),
            models.Index(fields=["-at", "-transaction_id"], name="labelled_by_time"),
            models.Index(
                fields=["transaction_id"],
                name="labelled_still_held",
                condition=models.Q(outcome=3, resolution=0),
            ),
        ]

    def __str__(self) -> str:
        return str(self.transaction_id)


class ReturnedMoney(models.Model):
    """What came back of a payment by refunds and reversals that name it; base currency, minor units."""

    transaction_id = models.BigIntegerField(primary_key=True)
    amount_base = models.BigIntegerField()

    class Meta:
        db_table = "returned_money"

    def __str__(self) -> str:
        return str(self.transaction_id)


class WorkedCase(models.Model):
    """A case's times as the tallies have counted them: what they take back when the case changes."""

    case_id = models.BigIntegerField(primary_key=True)
    queue_id = models.IntegerField()
    priority = models.SmallIntegerField()
    disposition = models.SmallIntegerField(default=0, help_text="Place in Case.Disposition from 1; 0 = not closed.")
    alerts = models.IntegerField(default=0)
    opened_at = models.DateTimeField()
    touched_at = models.DateTimeField(null=True)
    closed_at = models.DateTimeField(null=True)
    closed_by = models.IntegerField(null=True)
    reopened_at = models.DateTimeField(null=True)
    reopens = models.SmallIntegerField(default=0)
    handling = models.IntegerField(null=True, help_text="Seconds of its leases; null: nobody had it in hand.")
    hands = models.JSONField(default=dict, help_text="{person id: seconds}.")
    kept = models.BooleanField(null=True, help_text="Closed before it was due.")
    contradicted = models.BooleanField(default=False, help_text="A label says otherwise than the close.")

    class Meta:
        db_table = "worked_case"

    def __str__(self) -> str:
        return f"C-{self.case_id}"


class WorkTally(models.Model):
    """Work on cases in an hour or a day (UTC), by queue: how often, or how many seconds, a measure had a value.

    `measure` and the meaning of `part` are in `fraudsite/worked.py`; `bucket` is a length of time on a scale of steps
    of 9 per cent, or 0.
    """

    pk = models.CompositePrimaryKey("measure", "grain", "at", "queue_id", "part", "bucket")
    measure = models.SmallIntegerField()
    grain = models.CharField(max_length=1, help_text="h or d.")
    at = models.DateTimeField()
    queue_id = models.IntegerField()
    part = models.IntegerField()
    bucket = models.SmallIntegerField()
    n = models.BigIntegerField()

    class Meta:
        db_table = "work_tally"

    def __str__(self) -> str:
        return f"{self.measure}: {self.n}"
