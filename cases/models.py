"""What people work on: a case gathers the alerts of one customer (or merchant, or device) in one queue."""

from __future__ import annotations

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.utils import timezone

from alerts.models import Alert
from transactions.fields import CodeField
from transactions.models import Lane


def default_sla() -> dict[str, int]:
    """Minutes from opening to due, by priority."""
    return {"1": 30, "2": 120, "3": 480, "4": 1440}


class Queue(models.Model):
    """Where cases wait, who may work them, how they are grouped and when they are due."""

    class Grouping(models.TextChoices):
        CUSTOMER = "customer"
        MERCHANT = "merchant"
        DEVICE = "device"

    id = models.AutoField(primary_key=True)
    name = models.CharField(max_length=60, unique=True)
    slug = models.SlugField(max_length=40, unique=True)
    lane = models.ForeignKey(Lane, on_delete=models.PROTECT, related_name="queues")
    grouping = models.CharField(max_length=8, choices=Grouping, default=Grouping.CUSTOMER)
    channels = ArrayField(
        models.CharField(max_length=20),
        default=list,
        blank=True,
        help_text="Alerts of these channels; none = all others.",
    )
    weight = models.SmallIntegerField(default=0, help_text="Raises the priority of its cases.")
    sla = models.JSONField(default=default_sla, help_text="Minutes to due, by priority 1–4.")
    lease_minutes = models.PositiveSmallIntegerField(default=15)
    members = models.ManyToManyField(settings.AUTH_USER_MODEL, related_name="queues", blank=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class CloseReason(models.Model):
    """A structured reason for closing, offered for the dispositions it fits."""

    code = models.CharField(max_length=40, primary_key=True)
    title = models.CharField(max_length=80)
    dispositions = ArrayField(models.CharField(max_length=20), default=list)

    class Meta:
        ordering = ["code"]

    def __str__(self) -> str:
        return self.title


class Case(models.Model):
    """One piece of work: its status says where it is, its disposition what it was."""

    class Status(models.TextChoices):
        NEW = "new", "New"
        IN_REVIEW = "in_review", "In review"
        WAITING = "waiting", "Waiting"
        ESCALATED = "escalated", "Escalated"
        PENDING_APPROVAL = "pending_approval", "Pending approval"
        CLOSED = "closed", "Closed"

    class Disposition(models.TextChoices):
        CONFIRMED_FRAUD = "confirmed_fraud", "Confirmed fraud"
        SUSPECTED_FRAUD = "suspected_fraud", "Suspected fraud"
        LEGITIMATE = "legitimate", "Legitimate"
        LEGITIMATE_USEFUL = "legitimate_useful", "Legitimate, right to alert"
        INCONCLUSIVE = "inconclusive", "Inconclusive"
        DUPLICATE = "duplicate", "Duplicate"

    id = models.BigAutoField(primary_key=True)
    lane = models.ForeignKey(Lane, on_delete=models.PROTECT)
    queue = models.ForeignKey(Queue, on_delete=models.PROTECT, related_name="cases")
    grouping_key = models.BigIntegerField(help_text="Entity key of what the queue groups by.")
    customer = models.BigIntegerField()
    customer_ref = models.CharField(max_length=64)
    status = models.CharField(max_length=16, choices=Status, default=Status.NEW)
    disposition = models.CharField(max_length=17, choices=Disposition, blank=True, default="")
    fraud_type = CodeField("FRAUD_TYPE")
    close_reason = models.ForeignKey(CloseReason, on_delete=models.PROTECT, null=True, blank=True)
    rationale = models.TextField(blank=True, default="")
    priority = models.PositiveSmallIntegerField(default=4)
    score = models.SmallIntegerField(default=0, help_text="The highest of its alerts.")
    top_reason = models.CharField(max_length=200)
    amount = models.BigIntegerField(help_text="Of the highest alert; minor units of `currency`.")
    currency = CodeField("CURRENCY")
    amount_base = models.BigIntegerField(default=0, help_text="All alerts together, base currency.")
    alert_count = models.PositiveIntegerField(default=0)
    channel = CodeField("CHANNEL")
    country = CodeField("COUNTRY")
    opened_at = models.DateTimeField(default=timezone.now)
    last_alert_at = models.DateTimeField(default=timezone.now)
    due_at = models.DateTimeField()
    breached_at = models.DateTimeField(null=True, blank=True)
    assignee = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="cases"
    )
    claimed_at = models.DateTimeField(null=True, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    wake_at = models.DateTimeField(null=True, blank=True)
    closed_at = models.DateTimeField(null=True, blank=True)
    closed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    version = models.PositiveIntegerField(default=1, help_text="Counts changes; a stale form is refused.")

    class Meta:
        db_table = "case"
        constraints = [
            models.UniqueConstraint(
                fields=["queue", "grouping_key"], condition=~Q(status="closed"), name="one_open_case_per_queue_and_key"
            ),
            models.CheckConstraint(
                condition=~Q(status="closed") | (~Q(disposition="") & Q(closed_at__isnull=False)),
                name="a_closed_case_has_a_disposition",
            ),
        ]
        indexes = [
            models.Index(
                fields=["priority", "due_at", "-score", "id"], name="case_urgency", condition=~Q(status="closed")
            ),
            models.Index(fields=["customer", "-id"], name="case_by_customer"),
            models.Index(fields=["assignee", "status"], name="case_by_assignee", condition=~Q(status="closed")),
            models.Index(fields=["-closed_at"], name="case_by_closing", condition=Q(status="closed")),
        ]
        permissions = [
            ("work_case", "Can claim and work cases"),
            ("close_case", "Can close cases"),
            ("lead_queue", "Can take over and reassign cases"),
        ]

    def __str__(self) -> str:
        return self.number

    @property
    def number(self) -> str:
        return f"C-{self.pk}"


class CaseAlert(models.Model):
    """The case an alert belongs to: one, for good."""

    alert = models.OneToOneField(Alert, models.PROTECT, primary_key=True, db_constraint=False, related_name="in_case")
    case = models.ForeignKey(Case, on_delete=models.PROTECT, related_name="case_alerts")
    added_at = models.DateTimeField(default=timezone.now)
    verdict = models.CharField(max_length=17, blank=True, default="", help_text="Where it differs from the case's.")

    class Meta:
        db_table = "case_alert"

    def __str__(self) -> str:
        return f"alert {self.pk} in case {self.case_id}"


class CaseEvent(models.Model):
    """A line of a case's history. Append-only."""

    id = models.BigAutoField(primary_key=True)
    case = models.ForeignKey(Case, on_delete=models.PROTECT, related_name="events")
    kind = models.CharField(max_length=30, help_text="Past tense: opened, claimed, alert_added, closed, …")
    at = models.DateTimeField(default=timezone.now)
    actor = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    before = models.CharField(max_length=40, blank=True, default="")
    after = models.CharField(max_length=40, blank=True, default="")
    note = models.TextField(blank=True, default="")
    data = models.JSONField(default=dict)

    class Meta:
        db_table = "case_event"
        ordering = ["-id"]
        indexes = [models.Index(fields=["case", "-id"], name="events_of_case")]

    def __str__(self) -> str:
        return self.kind


class Note(models.Model):
    """What an investigator wrote down. Immutable; a correction is a new note that names the old."""

    id = models.BigAutoField(primary_key=True)
    case = models.ForeignKey(Case, on_delete=models.PROTECT, related_name="notes")
    author = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    at = models.DateTimeField(default=timezone.now)
    text = models.TextField()
    corrects = models.ForeignKey("self", on_delete=models.PROTECT, null=True, blank=True, related_name="+")

    class Meta:
        db_table = "note"
        ordering = ["-id"]

    def __str__(self) -> str:
        return self.text[:60]
