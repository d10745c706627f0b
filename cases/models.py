"""What people work on: a case gathers the alerts of one customer (or merchant, or device) in one queue."""

from __future__ import annotations

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.db import models
from django.db.models import Q
from django.utils import timezone

from alerts.models import Alert
from transactions.fields import CodeField
from transactions.models import Lane


def default_sla() -> dict[str, int]:
    """Minutes from opening to due, by priority."""
    return {"1": 30, "2": 120, "3": 480, "4": 1440}


def default_quality() -> list[str]:
    """The kinds of closes that are always reviewed."""
    return ["bulk", "legitimate_above_block"]


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
    working_hours = models.JSONField(
        default=list,
        blank=True,
        help_text='[[weekday 0–6 from Monday, "08:00", "18:00"], …] in `time_zone`; empty: around the clock.',
    )
    time_zone = models.CharField(max_length=40, default="UTC")
    escalates_to = models.ForeignKey("self", on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    auto_assign = models.BooleanField(default=False, help_text="New cases go to the member with the most room.")
    load_limit = models.PositiveSmallIntegerField(default=10, help_text="Cases in hand before no more are assigned.")
    four_eyes_from = models.BigIntegerField(
        null=True,
        blank=True,
        help_text="Closing a case of so much (base currency, minor units) or more needs a second person.",
    )
    quality_share = models.FloatField(default=0.02, help_text="Share of closed cases that a second person reviews.")
    quality_always = ArrayField(
        models.CharField(max_length=30),
        default=default_quality,
        blank=True,
        help_text="Closed cases that are always reviewed: bulk, legitimate_above_block, override.",
    )

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class Route(models.Model):
    """Sends alerts to a queue; the first that fits, by position, wins. Without one, the queues' channels decide."""

    id = models.AutoField(primary_key=True)
    lane = models.ForeignKey(Lane, on_delete=models.PROTECT, related_name="routes")
    name = models.CharField(max_length=60)
    position = models.PositiveSmallIntegerField(default=100)
    queue = models.ForeignKey(Queue, on_delete=models.PROTECT, related_name="routes")
    conditions = models.JSONField(
        default=dict,
        blank=True,
        help_text="All must hold: channels, countries, currencies, outcomes, reason_codes, rules (lists of texts);"
        " score_from, score_below, amount_from, amount_below (base currency, minor units).",
    )
    is_active = models.BooleanField(default=True)

    class Meta:
        ordering = ["lane", "position", "id"]

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
    wake_on = models.CharField(
        max_length=16,
        blank=True,
        default="",
        help_text="An event that wakes it before `wake_at`: customer, chargeback.",
    )
    tags = ArrayField(models.CharField(max_length=30), default=list, blank=True)
    closed_at = models.DateTimeField(null=True, blank=True)
    closed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    closed_in_bulk = models.BooleanField(default=False)
    undo_until = models.DateTimeField(null=True, blank=True, help_text="Until then the close can be taken back.")
    contradicted_at = models.DateTimeField(
        null=True, blank=True, help_text="When a later label said otherwise than this case; until a lead dealt with it."
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
            models.Index(fields=["closed_by", "-closed_at"], name="case_by_closer", condition=Q(status="closed")),
            models.Index(fields=["queue", "opened_at"], name="case_by_opening"),
            models.Index(fields=["wake_at"], name="case_by_waking", condition=Q(status="waiting")),
            models.Index(
                fields=["contradicted_at"], name="case_contradicted", condition=Q(contradicted_at__isnull=False)
            ),
            GinIndex(fields=["tags"], name="case_by_tag", condition=~Q(tags=[])),
        ]
        permissions = [
            ("work_case", "Can claim and work cases"),
            ("close_case", "Can close cases"),
            ("lead_queue", "Can take over and reassign cases"),
            ("bulk_close", "Can close many cases at once"),
            ("approve_case", "Can approve as the second person"),
            ("review_quality", "Can review samples of closed cases"),
            ("unmask", "Can see masked values, with a reason"),
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


class CaseCard(models.Model):
    """The last four digits of an alert's card, so that a search for them goes by an index."""

    row = models.OneToOneField(CaseAlert, models.CASCADE, primary_key=True, db_constraint=False, related_name="end")
    last4 = models.CharField(max_length=4)

    class Meta:
        db_table = "case_card"
        indexes = [models.Index(fields=["last4", "-row"], name="cards_of_cases")]

    def __str__(self) -> str:
        return f"•••• {self.last4}"


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
    """What an investigator wrote down, of a case or of an entity. Immutable; a correction names the old note."""

    id = models.BigAutoField(primary_key=True)
    case = models.ForeignKey(Case, on_delete=models.PROTECT, related_name="notes", null=True, blank=True)
    entity_kind = models.CharField(max_length=12, blank=True, default="", help_text="customer, card, device, …")
    entity_key = models.BigIntegerField(default=0)
    author = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    at = models.DateTimeField(default=timezone.now)
    text = models.TextField()
    corrects = models.ForeignKey("self", on_delete=models.PROTECT, null=True, blank=True, related_name="+")

    class Meta:
        db_table = "note"
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(case__isnull=False) | ~Q(entity_kind=""), name="a_note_is_of_a_case_or_an_entity"
            )
        ]
        indexes = [
            models.Index(
                fields=["entity_kind", "entity_key", "-id"], name="note_by_entity", condition=~Q(entity_kind="")
            )
        ]

    def __str__(self) -> str:
        return self.text[:60]


class Mention(models.Model):
    """A person named in a note, until they have seen it."""

    note = models.ForeignKey(Note, on_delete=models.PROTECT, related_name="mentions")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="mentions")
    seen_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        db_table = "mention"
        constraints = [models.UniqueConstraint(fields=["note", "user"], name="one_mention_per_note_and_person")]
        indexes = [models.Index(fields=["user"], name="mention_unseen", condition=Q(seen_at__isnull=True))]

    def __str__(self) -> str:
        return f"{self.user} in note {self.note_id}"


class Snippet(models.Model):
    """A text to start a note with; without an owner it is the whole team's."""

    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, null=True, blank=True, related_name="snippets"
    )
    title = models.CharField(max_length=60)
    text = models.TextField(max_length=2000)

    class Meta:
        ordering = ["title"]

    def __str__(self) -> str:
        return self.title


class Attachment(models.Model):
    """A file of a case. The bytes lie outside the web root under a random name; a removal leaves this row."""

    id = models.BigAutoField(primary_key=True)
    case = models.ForeignKey(Case, on_delete=models.PROTECT, related_name="attachments")
    name = models.CharField(max_length=200, help_text="As uploaded.")
    kind = models.CharField(max_length=8, help_text="By its content: pdf, png, jpg, txt, csv, docx, xlsx, eml.")
    size = models.BigIntegerField(help_text="Bytes.")
    sha256 = models.CharField(max_length=64)
    stored = models.CharField(max_length=64, unique=True, help_text="Random name of the file.")
    scanned = models.CharField(max_length=40, blank=True, default="", help_text="What the virus scan said.")
    at = models.DateTimeField(default=timezone.now)
    author = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    removed_at = models.DateTimeField(null=True, blank=True)
    removed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    removed_for = models.CharField(max_length=200, blank=True, default="")

    class Meta:
        db_table = "attachment"
        ordering = ["id"]

    def __str__(self) -> str:
        return self.name


class Filing(models.Model):
    """What is done about reporting a case to the authorities, as it stood each time; the newest row holds. Append-only.

    Even that there is one is told to nobody without the right: a word to the customer is an offence of its own.
    """

    class Decision(models.TextChoices):
        PREPARING = "preparing", "To be filed"
        FILED = "filed", "Filed"
        NOT_FILED = "not_filed", "Not to be filed"

    id = models.BigAutoField(primary_key=True)
    case = models.ForeignKey(Case, on_delete=models.PROTECT, related_name="filings")
    decision = models.CharField(max_length=10, choices=Decision)
    detected_on = models.DateField(help_text="Starts the clock of the report.")
    filed_on = models.DateField(null=True, blank=True)
    reference = models.CharField(max_length=60, blank=True, default="", help_text="The authority's number of it.")
    note = models.TextField(blank=True, default="")
    author = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    at = models.DateTimeField(default=timezone.now)

    class Meta:
        db_table = "filing"
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(
                condition=~Q(decision="filed") | (Q(filed_on__isnull=False) & ~Q(reference="")),
                name="what_is_filed_has_a_day_and_a_number",
            )
        ]
        indexes = [models.Index(fields=["case", "-id"], name="filings_of_case")]

    def __str__(self) -> str:
        return f"{self.get_decision_display()}, {self.at:%Y-%m-%d}"


class CheckItem(models.Model):
    """A step that the checklist of a fraud type asks for."""

    fraud_type = models.CharField(max_length=20, blank=True, default="", help_text="Empty: of every case.")
    position = models.PositiveSmallIntegerField(default=100)
    text = models.CharField(max_length=200)
    is_required = models.BooleanField(default=False, help_text="Named in the close dialog while it is open.")
    is_active = models.BooleanField(default=True)

    class Meta:
        ordering = ["fraud_type", "position", "id"]

    def __str__(self) -> str:
        return self.text


class CaseCheck(models.Model):
    """A step of the checklist, done in a case."""

    case = models.ForeignKey(Case, on_delete=models.PROTECT, related_name="checks")
    item = models.ForeignKey(CheckItem, on_delete=models.PROTECT, related_name="+")
    done_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    done_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["case", "item"], name="one_check_per_case_and_item")]

    def __str__(self) -> str:
        return f"{self.item} in {self.case}"


class Approval(models.Model):
    """What one person asks for and another decides: a close of much money, many closes at once."""

    class Kind(models.TextChoices):
        CLOSE = "close", "Close"
        BULK_CLOSE = "bulk_close", "Bulk close"
        REOPEN = "reopen", "Reopen"

    class Answer(models.TextChoices):
        APPROVED = "approved", "Approved"
        REJECTED = "rejected", "Rejected"
        EXPIRED = "expired", "Expired"
        WITHDRAWN = "withdrawn", "Withdrawn"

    id = models.BigAutoField(primary_key=True)
    kind = models.CharField(max_length=12, choices=Kind)
    queue = models.ForeignKey(Queue, on_delete=models.PROTECT, related_name="approvals")
    case = models.ForeignKey(Case, on_delete=models.PROTECT, null=True, blank=True, related_name="approvals")
    request = models.JSONField(help_text="What shall be done, as the service takes it; of many: {cases: [ids], …}.")
    causes = ArrayField(models.CharField(max_length=40), default=list, help_text="Why a second person is needed.")
    maker = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    made_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField()
    answer = models.CharField(max_length=10, choices=Answer, blank=True, default="")
    checker = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    answered_at = models.DateTimeField(null=True, blank=True)
    reason = models.TextField(blank=True, default="", help_text="The checker's.")

    class Meta:
        db_table = "case_approval"
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(checker__isnull=True) | ~Q(checker=models.F("maker")), name="a_maker_never_checks"
            ),
            models.UniqueConstraint(fields=["case"], condition=Q(answer=""), name="one_pending_approval_per_case"),
        ]
        indexes = [models.Index(fields=["queue", "expires_at"], name="approval_pending", condition=Q(answer=""))]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} by {self.maker}"


class QualityReview(models.Model):
    """A closed case that a second person looks at afterwards, and what they found."""

    class Finding(models.TextChoices):
        AGREE = "agree", "Agree"
        DISAGREE = "disagree", "Disagree"
        PROCESS_ERROR = "process_error", "Right, but not worked as it should be"

    case = models.ForeignKey(Case, on_delete=models.PROTECT, related_name="reviews")
    queue = models.ForeignKey(Queue, on_delete=models.PROTECT, related_name="+")
    decided_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    closed_at = models.DateTimeField(help_text="Which of the case's closes this is about.")
    chosen_for = models.CharField(max_length=30, help_text="random, bulk, legitimate_above_block, override.")
    seed = models.FloatField(help_text="The stored random number in [0, 1) that the queue's share was compared with.")
    sampled_at = models.DateTimeField(default=timezone.now)
    reviewer = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    finding = models.CharField(max_length=13, choices=Finding, blank=True, default="")
    comment = models.TextField(blank=True, default="")
    reviewed_at = models.DateTimeField(null=True, blank=True)
    reopened = models.BooleanField(default=False)

    class Meta:
        db_table = "quality_review"
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["case", "closed_at"], name="one_review_per_close"),
            models.CheckConstraint(
                condition=Q(reviewer__isnull=True) | ~Q(reviewer=models.F("decided_by")),
                name="nobody_reviews_their_own_close",
            ),
        ]
        indexes = [
            models.Index(fields=["queue", "sampled_at"], name="review_pending", condition=Q(finding="")),
            models.Index(fields=["reviewed_at"], name="review_by_time", condition=~Q(finding="")),
        ]

    def __str__(self) -> str:
        return f"review of {self.case}"


class Exclusion(models.Model):
    """An entity whose cases a person never gets: a relative, an own account."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="exclusions")
    customer = models.BigIntegerField(help_text="Entity key of the customer.")
    reason = models.CharField(max_length=200)
    added_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    added_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "customer"], name="one_exclusion_per_person")]

    def __str__(self) -> str:
        return f"{self.user} is kept from a customer"


class Absence(models.Model):
    """When a person is away: nothing is assigned to them."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="absences")
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    note = models.CharField(max_length=200, blank=True, default="")

    class Meta:
        ordering = ["starts_at"]
        constraints = [
            models.CheckConstraint(
                condition=Q(ends_at__gt=models.F("starts_at")), name="an_absence_ends_after_it_starts"
            )
        ]

    def __str__(self) -> str:
        return f"{self.user} away"


class SavedView(models.Model):
    """Filters and order of the queue page under a name, private or the team's."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="saved_views")
    name = models.CharField(max_length=60)
    address = models.CharField(max_length=1000, help_text="The query of the queue page's URL.")
    is_shared = models.BooleanField(default=False)
    is_default = models.BooleanField(default=False)
    position = models.PositiveSmallIntegerField(default=100)
    made_at = models.DateTimeField(default=timezone.now)

    class Meta:
        db_table = "saved_view"
        ordering = ["position", "name"]
        constraints = [
            models.UniqueConstraint(fields=["owner", "name"], name="one_view_per_owner_and_name"),
            models.UniqueConstraint(fields=["owner"], condition=Q(is_default=True), name="one_default_view_per_owner"),
        ]

    def __str__(self) -> str:
        return self.name


class DeskPreference(models.Model):
    """How a person wants the desk: theme, density, time zone, keys, sound, what comes after a close."""

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, primary_key=True, related_name="desk_preference"
    )
    values = models.JSONField(default=dict)

    class Meta:
        db_table = "desk_preference"

    def __str__(self) -> str:
        return f"preferences of {self.user}"


class Sighting(models.Model):
    """Who looked at what, when: a case, an entity, an unmasked value, a search, an export. Append-only."""

    id = models.BigAutoField(primary_key=True)
    at = models.DateTimeField(default=timezone.now)
    actor = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    act = models.CharField(max_length=20, help_text="case_viewed, entity_viewed, unmasked, searched, exported.")
    case = models.ForeignKey(Case, on_delete=models.PROTECT, null=True, blank=True, related_name="sightings")
    entity_kind = models.CharField(max_length=12, blank=True, default="")
    entity_key = models.BigIntegerField(default=0)
    reason = models.CharField(max_length=200, blank=True, default="")
    ip = models.GenericIPAddressField(null=True, blank=True)
    request_id = models.CharField(max_length=64, blank=True, default="")
    data = models.JSONField(default=dict)

    class Meta:
        db_table = "sighting"
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["case", "-id"], name="sightings_of_case", condition=Q(case__isnull=False)),
            models.Index(
                fields=["entity_kind", "entity_key", "-id"], name="sightings_of_entity", condition=~Q(entity_kind="")
            ),
            models.Index(fields=["actor", "-id"], name="sightings_by_actor"),
        ]

    def __str__(self) -> str:
        return f"{self.actor} {self.act}"
