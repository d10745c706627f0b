"""A decision that people must see: raised inside the lane's own commit, insert-only; people's part of it is a case."""

from __future__ import annotations

from django.db import models
from django.utils import timezone

from scoring.models import Decision
from transactions.fields import CodeField, DocumentField
from transactions.models import Transaction


class Alert(models.Model):
    """One for each payment that was stopped. Its id is the payment's, so there can be no second one."""

    transaction = models.OneToOneField(
        Transaction, models.DO_NOTHING, primary_key=True, db_column="id", db_constraint=False, related_name="alert"
    )
    decision = models.OneToOneField(Decision, models.DO_NOTHING, db_constraint=False, related_name="alert")
    lane = models.SmallIntegerField()
    seq = models.BigIntegerField(help_text="The lane's seq of the decision: where a browser resumes.")
    raised_at = models.DateTimeField()
    occurred_at = models.DateTimeField()
    outcome = CodeField("OUTCOME")
    score = models.SmallIntegerField()
    severity = models.SmallIntegerField(help_text="1 (most urgent) to 4.")
    customer = models.BigIntegerField()
    customer_ref = models.CharField(max_length=64)
    merchant = models.BigIntegerField(default=0)
    device = models.BigIntegerField(default=0)
    amount = models.BigIntegerField()
    currency = CodeField("CURRENCY")
    amount_base = models.BigIntegerField()
    channel = CodeField("CHANNEL")
    country = CodeField("COUNTRY")
    hold_until = models.DateTimeField(null=True, blank=True, help_text="Set while the payment is held for review.")
    top_reason = models.CharField(max_length=200)
    reasons = models.JSONField(default=list, help_text="[{code, text, source, contribution}] as judged.")
    rules = models.JSONField(default=list, help_text="[{rule, version, mode, text, values}]: hits with what they saw.")

    class Meta:
        db_table = "alert"
        ordering = ["-seq"]
        indexes = [
            models.Index(fields=["lane", "seq"], name="alert_resume"),
            models.Index(fields=["raised_at"], name="alert_by_time"),
            models.Index(fields=["customer"], name="alert_by_customer"),
            models.Index(fields=["hold_until"], name="alert_holds", condition=models.Q(hold_until__isnull=False)),
        ]

    def __str__(self) -> str:
        return f"{self.outcome} {self.score}: {self.top_reason}"


class AlertExplanation(models.Model):
    """The model's contributions to an alert, computed after the commit and frozen."""

    alert = models.OneToOneField(Alert, models.DO_NOTHING, primary_key=True, related_name="explanation")
    base = models.FloatField(help_text="The margin of a payment about which nothing is known.")
    margin = models.FloatField(help_text="base plus all contributions: the sum of the trees before calibration.")
    kept = DocumentField(help_text="{currency, parts: [[feature, value, contribution, text], …]}, largest first.")
    model_version = models.CharField(max_length=40)
    computed_at = models.DateTimeField(default=timezone.now)

    class Meta:
        db_table = "alert_explanation"

    def __str__(self) -> str:
        return f"{self.model_version}: {self.margin:.3f}"
