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
from django.db.models.functions import Now
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
    source = models.CharField(max_length=8, choices=[(each, each) for each in ("rule", "model", "policy", "list")])

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


class List(models.Model):
    """A named list of customers, cards, devices … What it does is settled when it is made and never changes.

    Entries of a block or allow list need two persons, going in and out; a watch list takes them at once.
    """

    class Kind(models.TextChoices):
        BLOCK = "block"
        ALLOW = "allow"
        WATCH = "watch"

    class Subject(models.TextChoices):
        CUSTOMER = "customer"
        CARD = "card"
        ACCOUNT = "account"
        DEVICE = "device"
        IP = "ip", "IP address"
        MERCHANT = "merchant"
        COUNTERPARTY = "counterparty", "Payee"
        COUNTRY = "country"
        BIN = "bin", "BIN"

    id = models.AutoField(primary_key=True)
    lane = models.ForeignKey(Lane, on_delete=models.PROTECT, related_name="lists")
    name = models.SlugField(max_length=40, help_text="As rules call it.")
    kind = models.CharField(max_length=5, choices=Kind)
    subject = models.CharField(max_length=12, choices=Subject)
    outcome = CodeField("OUTCOME", help_text="Of a block list: the least that happens to a payment it hits.")
    skips_scoring = models.BooleanField(default=False, help_text="Of an allow list: a hit is approved unseen.")
    description = models.CharField(max_length=300, blank=True, default="")
    owner = models.CharField(max_length=150, blank=True, default="")
    created_by = models.CharField(max_length=150)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(fields=["lane", "name"], name="one_list_of_a_name"),
            models.CheckConstraint(condition=Q(skips_scoring=False) | Q(kind="allow"), name="only_allow_lists_skip"),
        ]
        permissions = [
            ("propose_list", "Can propose entries of block and allow lists"),
            ("approve_list", "Can approve entries of block and allow lists as second person"),
            ("watch_list", "Can add to and remove from watch lists"),
        ]

    def __str__(self) -> str:
        return self.name


class ListEntry(models.Model):
    """One subject on a list, from a moment on. Never changed: what ends it early is a `ListRemoval`."""

    id = models.BigAutoField(primary_key=True)
    list = models.ForeignKey(List, on_delete=models.PROTECT, related_name="entries")
    value = models.CharField(max_length=64, help_text="As people read it; of a card's token only the ends.")
    key = models.BigIntegerField(default=0, help_text="Entity key, country code or BIN; 0 for a network.")
    high = models.BigIntegerField(default=0, help_text="A network's address as 128 bits, IPv4 mapped.")
    low = models.BigIntegerField(default=0)
    prefix = models.SmallIntegerField(default=0, help_text="Leading bits of the 128 that count.")
    valid_from = models.DateTimeField()
    expires_at = models.DateTimeField(null=True, blank=True)
    reason = models.CharField(max_length=200)
    author = models.CharField(max_length=150)
    origin = models.CharField(max_length=80, default="desk", help_text="desk, file, api, case 1204 …")
    added_at = models.DateTimeField(default=timezone.now)
    version = models.IntegerField(help_text="The lane's lists_version that brought it.")
    proposal = models.ForeignKey("Proposal", on_delete=models.PROTECT, null=True, blank=True, related_name="entries")

    class Meta:
        ordering = ["-id"]
        verbose_name_plural = "list entries"
        indexes = [
            models.Index(fields=["list", "-id"], name="entries_of_a_list"),
            models.Index(fields=["list", "key"], name="entries_of_a_subject"),
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(expires_at__isnull=True) | Q(expires_at__gt=F("valid_from")), name="an_entry_lasts"
            )
        ]

    def __str__(self) -> str:
        return f"{self.value} on {self.list.name}"


class ListRemoval(models.Model):
    """Who took an entry off its list, when and why."""

    entry = models.OneToOneField(ListEntry, on_delete=models.PROTECT, primary_key=True, related_name="removal")
    removed_at = models.DateTimeField()
    removed_by = models.CharField(max_length=150)
    reason = models.CharField(max_length=200)
    version = models.IntegerField(help_text="The lane's lists_version that took it off.")
    proposal = models.ForeignKey("Proposal", on_delete=models.PROTECT, null=True, blank=True, related_name="removals")

    def __str__(self) -> str:
        return f"{self.entry_id} removed"


class Proposal(models.Model):
    """A change to how money is judged, with its effect frozen, waiting for a second pair of eyes."""

    class Kind(models.TextChoices):
        POLICY = "policy"
        RULE = "rule"
        MODEL = "model"
        LIST = "list"

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
    list = models.ForeignKey(List, on_delete=models.PROTECT, null=True, blank=True, related_name="proposals")
    before = models.JSONField(default=dict)
    after = models.JSONField(default=dict)
    effect = models.JSONField(default=dict, help_text="The what-if as the proposer saw it.")
    reason = models.CharField(max_length=500)
    reverts = models.ForeignKey("self", on_delete=models.PROTECT, null=True, blank=True)
    status = models.CharField(max_length=9, choices=Status, default=Status.PENDING)
    proposed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+", null=True, blank=True
    )
    proposed_via = models.CharField(max_length=80, blank=True, default="", help_text="The API client that asked.")
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
                | Q(kind="model", model__isnull=False)
                | Q(kind="list", list__isnull=False),
                name="a_proposal_names_its_subject",
            ),
            models.CheckConstraint(
                condition=Q(proposed_by__isnull=False) | (Q(kind="list") & ~Q(proposed_via="")),
                name="somebody_proposed_it",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} proposal {self.pk}"

    @property
    def proposer(self) -> str:
        """Who asked for it, by name; the API client where no person did."""
        if self.proposed_by is None:
            return self.proposed_via
        return self.proposed_by.get_full_name() or self.proposed_by.get_username()


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
    lists_version = models.IntegerField(default=0, help_text="Entries and removals up to it count.")
    pulled = models.JSONField(
        default=dict, blank=True, help_text='Kill switches: {"model": true, "rules": [rule id, …]}; {} = none pulled.'
    )
    proposal = models.OneToOneField(Proposal, on_delete=models.PROTECT, null=True, blank=True, related_name="release")
    reason = models.CharField(max_length=500)
    activated_by = models.CharField(max_length=150)
    activated_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["lane", "-id"], name="release_in_force")]

    def __str__(self) -> str:
        return f"release {self.pk}"


class SwitchAct(models.Model):
    """A kill switch pulled or put back, by one person, at once: who, why, and the release it made. Insert-only."""

    class Act(models.TextChoices):
        PULLED = "pulled"
        RESTORED = "restored"

    id = models.AutoField(primary_key=True)
    lane = models.ForeignKey(Lane, on_delete=models.PROTECT, related_name="switch_acts")
    rule = models.ForeignKey(Rule, on_delete=models.PROTECT, null=True, blank=True, help_text="None: the model.")
    act = models.CharField(max_length=8, choices=Act)
    by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    reason = models.CharField(max_length=500)
    at = models.DateTimeField(default=timezone.now)
    release = models.OneToOneField(Release, on_delete=models.PROTECT, related_name="switch_act")

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["lane", "rule", "-id"], name="acts_of_a_switch")]
        permissions = [("pull_switch", "Can pull and put back kill switches")]

    def __str__(self) -> str:
        return f"{self.subject} {self.act}"

    @property
    def subject(self) -> str:
        """What was switched, in words."""
        return f"rule {self.rule}" if self.rule else "the model"


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
    final_at = models.DateTimeField(
        default=timezone.now, db_default=Now(), help_text="Before it, nobody outside is told: it may be taken back."
    )

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


class Rescreening(models.Model):
    """A request to judge payments again from their stored vectors, with a reason; its progress is committed with its
    decisions. Never deleted: it is the record of who asked and why.
    """

    id = models.BigAutoField(primary_key=True)
    lane = models.ForeignKey(Lane, on_delete=models.PROTECT, related_name="rescreenings")
    reason = models.CharField(max_length=500)
    author = models.CharField(max_length=150)
    is_automatic = models.BooleanField(default=False, help_text="Asked by the clock, for degraded decisions.")
    payments = ArrayField(models.BigIntegerField(), null=True, blank=True, help_text="Ids, ascending; else a filter.")
    filter = models.JSONField(default=dict, blank=True, help_text='{"degraded": [cause, …], "release": id}.')
    after = models.BigIntegerField(default=0, help_text="All up to here is done: ids of payments, or seqs of a filter.")
    upto = models.BigIntegerField(default=0, help_text="The last one, fixed when it was asked.")
    requested_at = models.DateTimeField(default=timezone.now)
    finished_at = models.DateTimeField(null=True, blank=True)
    release = models.ForeignKey(
        Release, on_delete=models.PROTECT, null=True, blank=True, related_name="+", help_text="Judged by last."
    )
    judged = models.BigIntegerField(default=0)
    changed = models.BigIntegerField(default=0, help_text="Judged to another outcome than before.")
    alerts = models.BigIntegerField(default=0, help_text="Newly raised.")
    left_out = models.JSONField(default=dict, blank=True, help_text="{why: how many}.")

    class Meta:
        db_table = "rescreening"
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["id"], name="rescreening_open", condition=Q(finished_at__isnull=True)),
            models.Index(fields=["lane", "-upto"], name="rescreening_mark", condition=Q(is_automatic=True)),
        ]
        permissions = [("rescreen", "Can have payments judged again")]

    def __str__(self) -> str:
        return f"re-screening {self.pk}"


class Rescreened(models.Model):
    """Which request a later decision belongs to. The table itself refuses a second one of the same payment."""

    decision = models.OneToOneField(
        Decision, models.DO_NOTHING, primary_key=True, db_constraint=False, related_name="rescreened"
    )
    request = models.ForeignKey(Rescreening, on_delete=models.PROTECT, related_name="decisions")
    transaction_id = models.BigIntegerField()

    class Meta:
        db_table = "rescreened"
        constraints = [models.UniqueConstraint(fields=["request", "transaction_id"], name="once_for_each_request")]

    def __str__(self) -> str:
        return f"decision {self.pk} by re-screening {self.request_id}"
