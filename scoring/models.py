"""What judges a payment, and what was judged: versions, releases, the lane's log and the decisions.

Versions are drafted, proposed and approved by two persons; a `Release` names everything a decision was made with, and
the highest release of a lane is the one in force, read under the lane's lock. Decisions and the log are inserted by the
lane's owner alone and never change. `decision` and `lane_log` are made by hand in the first migration.
"""

from __future__ import annotations

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from transactions.codes import CodeTable
from transactions.fields import CodeField
from transactions.models import Lane, Transaction

SCREENINGS = 64  # a decision's id is its transaction's id times this, plus the screening number (1, 2, …)

BAND = CodeTable("band", ["low", "challenge", "review", "decline"])
DEGRADED = CodeTable("degraded", ["model_unavailable", "model_off", "failed_twice"])
BASIS = CodeTable("basis", ["allow_list", "block_list"])  # what decided instead of the score; 0 = nothing did
LOG_KIND = CodeTable("log_kind", ["judged", "profiled", "label", "epoch"])


def decision_id(transaction_id: int, screening: int = 1) -> int:
    """The plain primary key that stands for (transaction, screening)."""
    return transaction_id * SCREENINGS + screening


class ReasonCode(models.Model):
    """A stable name for why a payment was stopped, with the sentence people read."""

    code = models.CharField(max_length=40, primary_key=True)
    title = models.CharField(max_length=80)
    description = models.CharField(max_length=300)
    source = models.CharField(max_length=8, choices=[("rule", "rule"), ("model", "model"), ("policy", "policy")])

    class Meta:
        ordering = ["code"]

    def __str__(self) -> str:
        return self.code


class ModelVersion(models.Model):
    """A trained model: where its artefact lies, what it was trained on and how well it did."""

    class Stage(models.TextChoices):
        CANDIDATE = "candidate"
        CHALLENGER = "challenger"
        CHAMPION = "champion"
        RETIRED = "retired"

    id = models.AutoField(primary_key=True)
    lane = models.ForeignKey(Lane, on_delete=models.PROTECT, related_name="model_versions")
    version = models.CharField(max_length=40)
    stage = models.CharField(max_length=10, choices=Stage, default=Stage.CANDIDATE)
    artefact = models.CharField(max_length=200, help_text="Folder below the artefact store.")
    sha256 = models.CharField(max_length=64)
    kernel_version = models.SmallIntegerField()
    card = models.JSONField(help_text="Features, training window, label cut-off, library versions.")
    metrics = models.JSONField(default=dict)
    created_at = models.DateTimeField(default=timezone.now)
    created_by = models.CharField(max_length=150, default="schedule")

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["lane", "version"], name="one_model_of_a_version"),
            models.UniqueConstraint(fields=["lane"], condition=Q(stage="champion"), name="one_champion_each_lane"),
        ]
        permissions = [
            ("propose_model", "Can propose a model for promotion"),
            ("approve_model", "Can approve a model as second person"),
        ]

    def __str__(self) -> str:
        return self.version


class Rule(models.Model):
    """A named suspicion. Its text, mode and severity live in versions."""

    id = models.AutoField(primary_key=True)
    lane = models.ForeignKey(Lane, on_delete=models.PROTECT, related_name="rules")
    code = models.CharField(max_length=12)
    name = models.CharField(max_length=80)
    owner = models.CharField(max_length=150, blank=True, default="")

    class Meta:
        ordering = ["code"]
        constraints = [models.UniqueConstraint(fields=["lane", "code"], name="one_rule_of_a_code")]
        permissions = [
            ("propose_rule", "Can propose a change of a rule"),
            ("approve_rule", "Can approve a change of a rule as second person"),
        ]

    def __str__(self) -> str:
        return f"{self.code} {self.name}"


class RuleVersion(models.Model):
    """One text of a rule: an expression over fields and features, and what a hit does."""

    class Mode(models.TextChoices):
        LIVE = "live"
        SHADOW = "shadow"
        OFF = "off"

    id = models.AutoField(primary_key=True)
    rule = models.ForeignKey(Rule, on_delete=models.PROTECT, related_name="versions")
    number = models.PositiveSmallIntegerField()
    expression = models.TextField()
    outcome = CodeField("OUTCOME", help_text="The least that happens to a payment it hits.")
    weight = models.SmallIntegerField(default=100, help_text="Orders the reasons; adds nothing to the score.")
    reason = models.ForeignKey(ReasonCode, on_delete=models.PROTECT)
    sentence = models.CharField(max_length=200, help_text="With {feature} place-holders for the values seen.")
    mode = models.CharField(max_length=6, choices=Mode, default=Mode.OFF, help_text="As it was drafted.")
    created_by = models.CharField(max_length=150)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["rule", "-number"]
        constraints = [models.UniqueConstraint(fields=["rule", "number"], name="one_version_of_a_number")]

    def __str__(self) -> str:
        return f"{self.rule.code} v{self.number}"


class PolicyVersion(models.Model):
    """Thresholds per channel, how long a payment is held, and what happens when nobody decides in time."""

    id = models.AutoField(primary_key=True)
    lane = models.ForeignKey(Lane, on_delete=models.PROTECT, related_name="policies")
    number = models.PositiveIntegerField()
    thresholds = models.JSONField(
        help_text='{"default": {"challenge": 500, "review": 700, "decline": 900}, "ecommerce": {…}}: scores from which.'
    )
    hold_minutes = models.PositiveIntegerField(default=120)
    default_resolution = models.CharField(
        max_length=8, choices=[("released", "released"), ("blocked", "blocked")], default="released"
    )
    created_by = models.CharField(max_length=150)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-number"]
        constraints = [models.UniqueConstraint(fields=["lane", "number"], name="one_policy_of_a_number")]
        permissions = [
            ("propose_policy", "Can propose thresholds"),
            ("approve_policy", "Can approve thresholds as second person"),
        ]

    def __str__(self) -> str:
        return f"policy {self.number}"


class Proposal(models.Model):
    """A change to how money is judged, with its effect frozen, waiting for a second pair of eyes."""

    class Kind(models.TextChoices):
        POLICY = "policy"
        RULE = "rule"
        MODEL = "model"

    class Status(models.TextChoices):
        PENDING = "pending"
        APPROVED = "approved"
        REJECTED = "rejected"
        WITHDRAWN = "withdrawn"
        EXPIRED = "expired"

    id = models.AutoField(primary_key=True)
    lane = models.ForeignKey(Lane, on_delete=models.PROTECT, related_name="proposals")
    kind = models.CharField(max_length=6, choices=Kind)
    policy = models.ForeignKey(PolicyVersion, on_delete=models.PROTECT, null=True, blank=True)
    rule_version = models.ForeignKey(RuleVersion, on_delete=models.PROTECT, null=True, blank=True)
    model = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, null=True, blank=True)
    before = models.JSONField(default=dict)
    after = models.JSONField(default=dict)
    effect = models.JSONField(default=dict, help_text="The what-if as the proposer saw it.")
    reason = models.CharField(max_length=500)
    reverts = models.ForeignKey("self", on_delete=models.PROTECT, null=True, blank=True)
    status = models.CharField(max_length=9, choices=Status, default=Status.PENDING)
    proposed_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    proposed_at = models.DateTimeField(default=timezone.now)
    decided_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+", null=True, blank=True
    )
    decided_at = models.DateTimeField(null=True, blank=True)
    decision_note = models.CharField(max_length=500, blank=True, default="")

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(
                condition=~Q(status="approved") | (Q(decided_by__isnull=False) & ~Q(decided_by=F("proposed_by"))),
                name="approved_by_another_person",
            ),
            models.CheckConstraint(
                condition=Q(kind="policy", policy__isnull=False)
                | Q(kind="rule", rule_version__isnull=False)
                | Q(kind="model", model__isnull=False),
                name="a_proposal_names_its_subject",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} proposal {self.pk}"


class Release(models.Model):
    """Everything one decision is judged by, under one id. Inserted, never changed; a lane's highest id is in force."""

    id = models.AutoField(primary_key=True)
    lane = models.ForeignKey(Lane, on_delete=models.PROTECT, related_name="releases")
    model = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, null=True, blank=True)
    challenger = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    policy = models.ForeignKey(PolicyVersion, on_delete=models.PROTECT)
    rules = models.JSONField(
        default=list, help_text='[{"version": id, "mode": "live"}, …] in the order of the hit mask.'
    )
    kernel_version = models.SmallIntegerField()
    lists_version = models.IntegerField(default=0)
    proposal = models.OneToOneField(Proposal, on_delete=models.PROTECT, null=True, blank=True, related_name="release")
    reason = models.CharField(max_length=500)
    activated_by = models.CharField(max_length=150)
    activated_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["lane", "-id"], name="release_in_force")]

    def __str__(self) -> str:
        return f"release {self.pk}"


class Decision(models.Model):
    """How a payment was judged, with all that judging saw. Range-partitioned by `id` (`decision_id`)."""

    id = models.BigIntegerField(primary_key=True)
    transaction = models.ForeignKey(
        Transaction, models.DO_NOTHING, db_constraint=False, related_name="decisions", db_index=False
    )
    seq = models.BigIntegerField(help_text="The lane's order of judgement.")
    decided_at = models.DateTimeField()
    latency = models.IntegerField(help_text="Micro-seconds from acceptance to decision.")
    release = models.ForeignKey(Release, models.DO_NOTHING, db_constraint=False, db_index=False)
    probability = models.FloatField(help_text="Calibrated; NaN without a model.")
    margin = models.FloatField(help_text="Sum of the trees before calibration; NaN without a model.")
    lane = models.SmallIntegerField()
    screening = models.SmallIntegerField()
    outcome = CodeField("OUTCOME")
    score = models.SmallIntegerField(help_text="0–1000; -1 for a payment that is only recorded.")
    band = models.SmallIntegerField(help_text="Index into BAND; by score alone.")
    degraded = models.SmallIntegerField(default=0, help_text="Index into DEGRADED; 0 = in full.")
    kernel_version = models.SmallIntegerField()
    basis = models.SmallIntegerField(default=0, help_text="Index into BASIS; 0 = model, rules and policy.")
    list_hits = models.BinaryField(default=b"", help_text="Ids of the list entries hit: int64, little-endian.")
    rule_hits = models.BinaryField(help_text="One byte for each rule of the release, in its order.")
    features = models.BinaryField(help_text="float32, little-endian, in the order of the kernel version.")

    class Meta:
        db_table = "decision"
        managed = False
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.outcome} {self.score}"

    @property
    def needs_review(self) -> bool:
        return self.outcome in ("review", "decline", "challenge")


class HoldResolution(models.Model):
    """What became of a held payment: once, and for good."""

    transaction = models.OneToOneField(
        Transaction, models.DO_NOTHING, primary_key=True, db_constraint=False, related_name="resolution"
    )
    lane = models.SmallIntegerField()
    resolution = models.CharField(max_length=8, choices=[("released", "released"), ("blocked", "blocked")])
    source = models.CharField(max_length=12, choices=[("case", "case"), ("default", "default"), ("api", "api")])
    by = models.CharField(max_length=150, blank=True, default="")
    resolved_at = models.DateTimeField(default=timezone.now)

    class Meta:
        db_table = "hold_resolution"

    def __str__(self) -> str:
        return self.resolution


class LaneCursor(models.Model):
    """Where a lane stands: equals the last row of its log."""

    lane = models.OneToOneField(Lane, on_delete=models.PROTECT, primary_key=True, db_column="lane")
    epoch = models.IntegerField(default=0)
    seq = models.BigIntegerField(default=0)
    token = models.UUIDField()
    mark = models.BigIntegerField(default=0, help_text="No payment at or below it is owed a decision.")
    label_mark = models.BigIntegerField(default=0)

    class Meta:
        db_table = "lane_cursor"

    def __str__(self) -> str:
        return f"lane {self.pk} at {self.epoch}/{self.seq}"


class LaneLog(models.Model):
    """The order in which the lane took things in; written by its owner alone."""

    pk = models.CompositePrimaryKey("lane", "seq")
    lane = models.SmallIntegerField()
    seq = models.BigIntegerField()
    epoch = models.IntegerField()
    token = models.UUIDField()
    kind = models.SmallIntegerField(help_text="Index into LOG_KIND.")
    transaction_id = models.BigIntegerField(null=True)
    label_id = models.BigIntegerField(null=True)
    old = models.SmallIntegerField(null=True, help_text="Effective label before: 0 none, 1 legitimate, 2 fraud.")
    new = models.SmallIntegerField(null=True)

    class Meta:
        db_table = "lane_log"
        managed = False

    def __str__(self) -> str:
        return f"{self.lane}/{self.seq}"


class Epoch(models.Model):
    """A rebuilt past: the profiles of a lane by time replay, and the moment the lane switched to them."""

    class Status(models.TextChoices):
        READY = "ready"
        LIVE = "live"
        FAILED = "failed"

    id = models.AutoField(primary_key=True)
    lane = models.ForeignKey(Lane, on_delete=models.PROTECT, related_name="epochs")
    number = models.IntegerField()
    status = models.CharField(max_length=6, choices=Status, default=Status.READY)
    seq = models.BigIntegerField(help_text="The lane's seq up to which the file knows the log.")
    token = models.UUIDField(help_text="The log's token at that seq.")
    file = models.CharField(max_length=200)
    sha256 = models.CharField(max_length=64)
    base_file = models.CharField(max_length=200, blank=True, default="")
    base_sha256 = models.CharField(max_length=64, blank=True, default="")
    layout_version = models.SmallIntegerField()
    imports = ArrayField(models.BigIntegerField(), default=list)
    payments = models.BigIntegerField(default=0)
    labels = models.BigIntegerField(default=0)
    reason = models.CharField(max_length=200, blank=True, default="")
    built_at = models.DateTimeField(default=timezone.now)
    switched_at = models.DateTimeField(null=True, blank=True)
    switched_seq = models.BigIntegerField(null=True, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["lane", "number"], name="one_epoch_of_a_number")]

    def __str__(self) -> str:
        return f"epoch {self.number}"


class EntityLink(models.Model):
    """Two entities seen together for the first time: the desk's graph reads this, never the payments."""

    pk = models.CompositePrimaryKey("lane", "left_kind", "left_key", "right_kind", "right_key")
    lane = models.SmallIntegerField()
    left_kind = CodeField("ENTITY")
    left_key = models.BigIntegerField()
    right_kind = CodeField("ENTITY")
    right_key = models.BigIntegerField()
    transaction_id = models.BigIntegerField()
    seen_at = models.DateTimeField()

    class Meta:
        db_table = "entity_link"
        managed = False

    def __str__(self) -> str:
        return f"{self.left_kind}–{self.right_kind}"


class LaneStatus(models.Model):
    """What a lane's owner last said of itself, for the dashboard and readiness; written at most every few seconds."""

    lane = models.OneToOneField(Lane, on_delete=models.PROTECT, primary_key=True, db_column="lane")
    seen_at = models.DateTimeField()
    state = models.CharField(max_length=20, default="running")
    degraded = models.CharField(max_length=40, blank=True, default="")
    figures = models.JSONField(default=dict)

    class Meta:
        db_table = "lane_status"

    def __str__(self) -> str:
        return self.state
