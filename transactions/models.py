"""The ground floor: who may send payments, the payments themselves, and what became known of them later.

Payments and labels are facts: inserted once, never updated, never deleted by the application. `Transaction` holds only
fixed-width columns that judging needs (0, NaN or `ABSENT` = not sent), so that batches travel to and from NumPy whole;
`TransactionDetail` holds what is shown but not judged. The partitioned tables are made by hand in the first migration.
"""

from __future__ import annotations

from datetime import UTC, datetime

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.utils import timezone

from transactions import codes
from transactions.fields import CodeField, DocumentField

ABSENT = -(2**63)  # a bigint that was not sent
ABSENT_DAY = -(2**31)  # a date that was not sent; other days count from 2000-01-01
NO_MOMENT = datetime(2000, 1, 1, tzinfo=UTC)  # a time that was not sent


class Lane(models.Model):
    """One portfolio, judged in one order by one owner: a bank's cards, its transfers, its sandbox."""

    id = models.SmallAutoField(primary_key=True)
    name = models.SlugField(max_length=40, unique=True)
    base_currency = models.CharField(max_length=3, default="EUR")
    sandbox = models.BooleanField(default=False)

    def __str__(self) -> str:
        return self.name


class ApiClient(models.Model):
    """A bank system that may call the API. Natural keys are unique per client."""

    id = models.AutoField(primary_key=True)
    name = models.CharField(max_length=80, unique=True)
    lane = models.ForeignKey(Lane, on_delete=models.PROTECT, related_name="clients")
    enabled = models.BooleanField(default=True)
    exempt_fields = ArrayField(
        models.CharField(max_length=80),
        default=list,
        blank=True,
        help_text="JSON pointers of structured identifiers that may look like a card number.",
    )
    requests_per_minute = models.IntegerField(
        null=True, blank=True, help_text="Single requests; empty = the desk's own limit, 0 = none."
    )
    created_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return self.name


class ApiKey(models.Model):
    """A prefix that is shown and a secret that is stored hashed; two live keys let a client rotate."""

    id = models.AutoField(primary_key=True)
    client = models.ForeignKey(ApiClient, on_delete=models.PROTECT, related_name="keys")
    prefix = models.CharField(max_length=24, unique=True)
    secret_hash = models.BinaryField(max_length=32)
    scopes = ArrayField(models.CharField(max_length=40), default=list)
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    networks = ArrayField(models.CharField(max_length=43), default=list, blank=True)

    def __str__(self) -> str:
        return self.prefix


class CurrencyRate(models.Model):
    """How many units of the base currency one unit of `currency` is worth from `valid_from` on."""

    base = models.CharField(max_length=3)
    currency = models.CharField(max_length=3)
    rate = models.DecimalField(max_digits=20, decimal_places=10)
    valid_from = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["base", "currency", "valid_from"], name="one_rate_at_a_time")]

    def __str__(self) -> str:
        return f"1 {self.currency} = {self.rate} {self.base}"


class TransactionKey(models.Model):
    """The one place of idempotency: a client's own id for a payment, and the hash of the body it came with."""

    id = models.BigIntegerField(primary_key=True)
    lane = models.SmallIntegerField()
    client = models.IntegerField()
    external_id = models.CharField(max_length=64, db_collation="C")
    body_hash = models.BinaryField(max_length=16)

    class Meta:
        db_table = "transaction_key"
        constraints = [models.UniqueConstraint(fields=["lane", "client", "external_id"], name="one_natural_key")]

    def __str__(self) -> str:
        return self.external_id


class Transaction(models.Model):
    """A payment as it was sent: fixed-width facts, partitioned by `id`; `transactions/facts.py` has their order."""

    id = models.BigIntegerField(primary_key=True)
    occurred_at = models.DateTimeField(help_text="When the payment happened (client's clock).")
    received_at = models.DateTimeField(help_text="When it was accepted here: when it became known.")
    amount = models.BigIntegerField(help_text="Minor units of the currency.")
    amount_base = models.BigIntegerField(help_text="Minor units of the lane's base currency, frozen at ingest.")
    balance_before = models.BigIntegerField(default=ABSENT, help_text="Base currency, minor units.")
    customer = models.BigIntegerField(default=0)
    account = models.BigIntegerField(default=0)
    card = models.BigIntegerField(default=0)
    device = models.BigIntegerField(default=0)
    ip = models.BigIntegerField(default=0)
    merchant = models.BigIntegerField(default=0)
    terminal = models.BigIntegerField(default=0)
    counterparty = models.BigIntegerField(default=0)
    original = models.BigIntegerField(
        default=0, help_text="Id of the kept payment that this one clears, refunds or reverses; 0 = none known then."
    )
    original_at = models.DateTimeField(default=NO_MOMENT, help_text="When that one happened.")
    ip_high = models.BigIntegerField(default=0, help_text="The IP address as 128 bits (IPv4 mapped), for networks.")
    ip_low = models.BigIntegerField(default=0)
    client = models.IntegerField()
    import_job = models.IntegerField(default=0, help_text="The import that brought it; 0 = sent live.")
    customer_since = models.IntegerField(default=ABSENT_DAY, help_text="Days since 2000-01-01.")
    account_opened = models.IntegerField(default=ABSENT_DAY, help_text="Days since 2000-01-01.")
    session_age = models.IntegerField(default=-1, help_text="Seconds from the start of the session to the payment.")
    bin = models.IntegerField(default=0, help_text="The card's BIN, six or eight digits as a number; 0 = not sent.")
    lat = models.FloatField(default=float("nan"))
    lon = models.FloatField(default=float("nan"))
    lane = models.SmallIntegerField()
    intake = CodeField("INTAKE", default="live")
    type = CodeField("TYPE")
    stage = CodeField("STAGE", default="authorisation")
    direction = CodeField("DIRECTION", default="debit")
    channel = CodeField("CHANNEL", default="other")
    instrument = CodeField("INSTRUMENT", default="other")
    currency = CodeField("CURRENCY")
    mcc = models.SmallIntegerField(default=-1)
    customer_country = CodeField("COUNTRY")
    account_country = CodeField("COUNTRY")
    issuer_country = CodeField("COUNTRY")
    merchant_country = CodeField("COUNTRY")
    counterparty_country = CodeField("COUNTRY")
    location_country = CodeField("COUNTRY")
    segment = CodeField("SEGMENT")
    scheme = CodeField("SCHEME")
    funding = CodeField("FUNDING")
    entry_mode = CodeField("ENTRY_MODE")
    authentication = CodeField("AUTHENTICATION")
    sca = CodeField("SCA")
    exemption = CodeField("EXEMPTION")
    three_ds = CodeField("THREE_DS")
    cvv_result = CodeField("RESULT")
    avs_result = CodeField("RESULT")
    vop = CodeField("VOP")
    transfer_scheme = CodeField("TRANSFER_SCHEME")
    device_flags = models.SmallIntegerField(default=0, help_text="Bits: see codes.DEVICE_FLAGS.")
    birth_year = models.SmallIntegerField(default=0)
    external_id = models.CharField(max_length=64)
    customer_ref = models.CharField(max_length=64, help_text="The bank's own opaque customer id.")

    class Meta:
        db_table = "transaction"
        managed = False
        ordering = ["-id"]

    def __str__(self) -> str:
        return self.external_id

    @property
    def exponent(self) -> int:
        """Decimals of the payment's currency."""
        return codes.EXPONENT.get(self.currency, 2)


class TransactionDetail(models.Model):
    """What is shown but not judged: the canonical document, in the API's own shape. The one place of erasure."""

    transaction = models.OneToOneField(
        Transaction, models.DO_NOTHING, primary_key=True, db_column="id", db_constraint=False, related_name="detail"
    )
    document = DocumentField()

    class Meta:
        db_table = "transaction_detail"
        managed = False

    def __str__(self) -> str:
        return str(self.pk)


class Label(models.Model):
    """What became known of a payment, append-only. The lane takes each row in once, as an entry of its log."""

    id = models.BigIntegerField(primary_key=True)
    lane = models.SmallIntegerField()
    transaction = models.ForeignKey(
        Transaction, models.DO_NOTHING, db_constraint=False, related_name="labels", db_index=False
    )
    verdict = CodeField("VERDICT")
    source = CodeField("LABEL_SOURCE")
    fraud_type = CodeField("FRAUD_TYPE")
    happened_at = models.DateTimeField(help_text="When the fact behind the label happened.")
    known_at = models.DateTimeField(help_text="When the bank knew it; training before that does not see it.")
    recorded_at = models.DateTimeField(help_text="When it was stored here.")
    author = models.CharField(max_length=150, blank=True, default="")
    reason = models.CharField(max_length=500, blank=True, default="")
    import_job = models.BigIntegerField(null=True, blank=True)

    class Meta:
        db_table = "label"
        managed = False
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.verdict} ({self.source})"


class ImportJob(models.Model):
    """A file of history that went in, or is going in: its progress is committed together with its rows."""

    class Kind(models.TextChoices):
        TRANSACTIONS = "transactions"
        LABELS = "labels"

    class Status(models.TextChoices):
        RUNNING = "running"
        FINISHED = "finished"

    id = models.BigAutoField(primary_key=True)
    kind = models.CharField(max_length=12, choices=Kind)
    lane = models.ForeignKey(Lane, on_delete=models.PROTECT)
    client = models.ForeignKey(ApiClient, on_delete=models.PROTECT)
    file_name = models.CharField(max_length=255)
    fingerprint = models.CharField(max_length=64, help_text="SHA-256 of the file and its mapping.")
    decide = models.BooleanField(default=False, help_text="Scored as if it had arrived then.")
    status = models.CharField(max_length=8, choices=Status, default=Status.RUNNING)
    next_row = models.BigIntegerField(default=0, help_text="Rows of the file that are dealt with.")
    accepted = models.BigIntegerField(default=0)
    known = models.BigIntegerField(default=0, help_text="Rows that were there already, with the same body.")
    rejected = models.BigIntegerField(default=0)
    first_id = models.BigIntegerField(null=True)
    last_id = models.BigIntegerField(null=True)
    started_at = models.DateTimeField(default=timezone.now)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["kind", "client", "fingerprint"], name="one_job_for_each_file"),
            models.CheckConstraint(
                condition=~Q(status="finished") | Q(finished_at__isnull=False), name="finished_jobs_say_when"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} from {self.file_name}"


class BulkJob(models.Model):
    """One bulk request that was taken in: what became of its lines. Written once, in the commit of its payments.

    Its columns name no other table by a foreign key, whose check would lock that row for each request.
    """

    id = models.BigAutoField(primary_key=True)
    lane = models.SmallIntegerField()
    client = models.IntegerField()
    created_at = models.DateTimeField(default=timezone.now)
    lines = models.IntegerField(help_text="Lines that held something.")
    accepted = models.IntegerField(default=0, help_text="Payments kept by this request.")
    known = models.IntegerField(default=0, help_text="Payments that were there already, with the same body.")
    rejected = models.IntegerField(default=0)
    ids = models.BinaryField(help_text="Line numbers and ids of the payments, see transactions/jobs.py.")
    rejects = models.BinaryField(help_text="The problems of the other lines, compressed JSON; empty if there are none.")

    class Meta:
        db_table = "bulk_job"

    def __str__(self) -> str:
        return f"bulk {self.pk}"
