"""History by file: any column names and units, bad rows told, nothing lost or doubled when an import is killed."""

from __future__ import annotations

import csv
import gzip
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection

from fraudsite.embedded import ROOT
from transactions import imports
from transactions.files import BadFile
from transactions.imports import import_labels, import_transactions, rejects_path
from transactions.mapping import BadMapping
from transactions.models import ApiClient, ImportJob, Label, Transaction, TransactionDetail, TransactionKey

FOREIGN = """
zone = "Europe/Berlin"
decimal = ","
[columns]
external_id = "Buchung"
"amount.value" = { column = "Betrag", unit = "decimal", strip = ".", absolute = true }
"amount.currency" = { column = "Whg", default = "EUR" }
occurred_at = { column = "Zeit", format = "%d.%m.%Y %H:%M:%S" }
channel = { column = "Weg", values = { POS = "card_present", WEB = "ecommerce" }, default = "other" }
"customer.id" = { column = "Kunde", prefix = "c-" }
"card.token" = "Karte"
"metadata.branch" = "Filiale"
[constants]
type = "purchase"
"""
ROWS = [
    ["B1", "1.234,56", "", "31.03.2024 01:30:00", "POS", "17", "k1", "Mitte"],
    ["B2", "-5000", "JPY", "01.07.2024 12:00:00", "WEB", "18", "k2", ""],
    ["B3", "12,345", "EUR", "01.07.2024 12:00:00", "WEB", "18", "k2", ""],
    ["B4", "1,00", "EUR", "gestern", "WEB", "18", "k2", ""],
    ["B5", "1,00", "EUR", "01.07.2024 12:00:00", "FAX", "", "4" + "1" * 15, ""],
]


def write_csv(path: Path, header: list[str], rows: list[list[str]], *, delimiter: str = ",") -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(header)
        writer.writerows(rows)
    return path


def plain_rows(n: int) -> list[list[str]]:
    start = datetime(2024, 1, 1, tzinfo=UTC)
    return [
        [
            f"h-{k:06d}",
            "purchase",
            (start + timedelta(minutes=k)).isoformat(),
            str(100 + k),
            "EUR",
            f"c-{k % 50}",
            f"t-{k % 70}",
        ]
        for k in range(n)
    ]


PLAIN = ["external_id", "type", "occurred_at", "amount.value", "amount.currency", "customer.id", "card.token"]


@pytest.fixture
def foreign(tmp_path: Path) -> tuple[Path, Path]:
    header = ["Buchung", "Betrag", "Whg", "Zeit", "Weg", "Kunde", "Karte", "Filiale"]
    mapping = tmp_path / "bank.toml"
    mapping.write_text(FOREIGN)
    return write_csv(tmp_path / "umsatz.csv", header, ROWS, delimiter=";"), mapping


def test_foreign_columns_units_and_zones_become_canonical(bank: ApiClient, foreign: tuple[Path, Path]):
    job = import_transactions(foreign[0], client=bank, mapping=foreign[1])
    first, second = Transaction.objects.order_by("id")
    assert (first.amount, first.currency, first.channel, first.intake) == (123456, "EUR", "card_present", "history")
    assert first.occurred_at == datetime(2024, 3, 31, 0, 30, tzinfo=UTC)  # half past one before the clocks went on
    assert (second.amount, second.currency, second.customer_ref) == (5000, "JPY", "c-18")
    assert second.occurred_at == datetime(2024, 7, 1, 10, tzinfo=UTC) and second.import_job == job.pk
    assert TransactionDetail.objects.get(pk=first.pk).document["metadata"] == {"branch": "Mitte"}
    assert (job.accepted, job.rejected, job.next_row, job.status) == (2, 3, 5, "finished")


def test_bad_rows_are_told_with_line_field_and_reason_and_without_their_values(
    bank: ApiClient, foreign: tuple[Path, Path]
):
    import_transactions(foreign[0], client=bank, mapping=foreign[1])
    text = rejects_path(foreign[0]).read_text()
    told = {(row["line"], row["field"], row["reason"].split(":")[0]) for row in csv.DictReader(text.splitlines())}
    assert told == {
        ("4", "amount.value", "invalid-format"),
        ("5", "occurred_at", "invalid-format"),
        ("6", "card.token", "pan-not-accepted"),
        ("6", "customer", "required"),
    }
    assert "1111" not in text and "gestern" not in text


def test_the_same_file_again_changes_nothing_and_a_longer_one_adds_only_what_is_new(bank: ApiClient, tmp_path: Path):
    first = import_transactions(write_csv(tmp_path / "a.csv", PLAIN, plain_rows(100)), client=bank)
    again = import_transactions(tmp_path / "a.csv", client=bank)
    assert again.pk == first.pk and Transaction.objects.count() == 100
    longer = plain_rows(110)
    longer[3][3] = "999999"
    job = import_transactions(write_csv(tmp_path / "b.csv", PLAIN, longer), client=bank)
    assert (job.accepted, job.known, job.rejected) == (10, 99, 1)
    assert "duplicate-external-id" in rejects_path(tmp_path / "b.csv").read_text()
    assert Transaction.objects.count() == TransactionKey.objects.count() == 110


def test_gzip_and_parquet_give_the_same_rows_as_csv(bank: ApiClient, tmp_path: Path):
    rows = plain_rows(30)
    plain = write_csv(tmp_path / "a.csv", PLAIN, rows[:10]).read_bytes()
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(write_csv(tmp_path / "b.csv", PLAIN, rows[10:20]).read_bytes()))
    frame = pl.DataFrame(rows[20:], schema=PLAIN, orient="row").with_columns(
        pl.col("amount.value").cast(pl.Int64), pl.col("occurred_at").str.to_datetime(time_zone="UTC")
    )
    frame.write_parquet(tmp_path / "c.parquet")
    (tmp_path / "a.csv").write_bytes(plain)
    for name in ("a.csv", "b.csv.gz", "c.parquet"):
        assert import_transactions(tmp_path / name, client=bank).accepted == 10
    stored = list(Transaction.objects.order_by("id").values_list("external_id", "amount", "occurred_at"))
    assert stored == [(row[0], int(row[3]), datetime.fromisoformat(row[2])) for row in rows]


def test_history_scored_as_then_is_live_and_arrived_when_it_happened(bank: ApiClient, tmp_path: Path):
    import_transactions(write_csv(tmp_path / "a.csv", PLAIN, plain_rows(3)), client=bank, decide=True)
    assert all(
        payment.intake == "live" and payment.received_at == payment.occurred_at for payment in Transaction.objects.all()
    )


@pytest.mark.parametrize(
    ("mapping", "sentence"),
    [
        ('[columns]\nexternal_id = "nope"', "has no column nope"),
        ('[columns]\nextrenal_id = "external_id"', "no field extrenal_id"),
        ('[columns]\n"amount.value" = { column = "amount.value", unit = "s" }', "cannot have the unit s"),
        ('zone = "Mars/Olympus"\n[columns]\noccurred_at = "occurred_at"', "no time zone"),
        ("[columns\n", "is wrong"),
        ('[columns]\nexternal_id = { colum = "x" }', "is wrong"),
    ],
)
def test_a_mapping_that_does_not_fit_is_refused_in_one_sentence(
    bank: ApiClient, tmp_path: Path, mapping: str, sentence: str
):
    (tmp_path / "m.toml").write_text(mapping)
    with pytest.raises(BadMapping, match=sentence):
        import_transactions(
            write_csv(tmp_path / "a.csv", PLAIN, plain_rows(1)), client=bank, mapping=tmp_path / "m.toml"
        )
    assert not ImportJob.objects.exists()


def test_a_file_that_is_no_table_is_refused(bank: ApiClient, tmp_path: Path):
    for name, content in {"empty.csv": b"", "twice.csv": b"a,a\n", "bin.csv": b"external_id\n\xff\xfe\xff\n"}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises((BadFile, BadMapping)):
            import_transactions(tmp_path / name, client=bank)
    with pytest.raises(BadFile):
        import_transactions(tmp_path / "missing.csv", client=bank)


def test_labels_find_their_payments_and_keep_when_they_became_known(bank: ApiClient, tmp_path: Path):
    import_transactions(write_csv(tmp_path / "a.csv", PLAIN, plain_rows(4)), client=bank)
    (tmp_path / "l.toml").write_text(
        '[columns]\nexternal_id = "id"\n'
        'verdict = { column = "fraud", values = { "1" = "fraud", "0" = "legitimate" } }\n'
        'known_at = { column = "when", unit = "s" }\n[constants]\nsource = "chargeback"\n'
    )
    rows = [["h-000000", "1", "1710000000"], ["h-000001", "0", ""], ["h-999999", "1", ""], ["h-000002", "7", ""]]
    path = write_csv(tmp_path / "l.csv", ["id", "fraud", "when"], rows)
    job = import_labels(path, client=bank, mapping=tmp_path / "l.toml")
    given, assumed = Label.objects.order_by("id")
    assert (given.verdict, given.source, given.import_job) == ("fraud", "chargeback", job.pk)
    assert given.known_at == datetime.fromtimestamp(1710000000, UTC) < given.recorded_at
    assert assumed.verdict == "legitimate" and assumed.known_at == assumed.recorded_at == job.started_at
    told = {(row["line"], row["field"]) for row in csv.DictReader(rejects_path(path).read_text().splitlines())}
    assert told == {("4", "external_id"), ("5", "verdict")} and (job.accepted, job.rejected) == (2, 2)


def test_the_commands_report_in_one_line_and_name_an_unknown_client(
    bank: ApiClient, tmp_path: Path, capsys: pytest.CaptureFixture
):
    path = write_csv(tmp_path / "a.csv", PLAIN, plain_rows(3))
    call_command("import_transactions", str(path))
    assert "3 rows read, 3 stored, 0 known before" in capsys.readouterr().out
    with pytest.raises(CommandError, match="no API client nobody"):
        call_command("import_transactions", str(path), "--client", "nobody")


def test_a_second_import_of_the_same_file_at_the_same_time_gives_way(
    bank: ApiClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = write_csv(tmp_path / "a.csv", PLAIN, plain_rows(3))

    def overtaken(job: ImportJob, work: Any, rejects: Any) -> None:
        ImportJob.objects.filter(pk=job.pk).update(next_row=2)
        imports._store_payments(job, work, rejects)

    monkeypatch.setattr(imports, "PAYMENTS", imports.Kind(imports._read_payments, overtaken))
    with pytest.raises(imports.ImportTaken):
        import_transactions(path, client=bank)


@pytest.mark.django_db(transaction=True)
def test_an_import_killed_half_way_ends_with_exactly_the_same_rows(bank: ApiClient, tmp_path: Path):
    rows = plain_rows(6_000)
    rows[10][3] = rows[2_500][3] = rows[5_900][3] = "not money"
    path = write_csv(tmp_path / "a.csv", PLAIN, rows)
    environment = {**os.environ, "DATABASE_URL": _test_database_url(), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", _KILLABLE, str(path)]
    child = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not ImportJob.objects.filter(next_row__gte=2_000).exists():
            assert child.poll() is None
            time.sleep(0.01)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    halfway = ImportJob.objects.get()
    assert 2_000 <= halfway.next_row < 6_000 and Transaction.objects.count() == halfway.accepted
    with rejects_path(path).open("a") as file:
        file.write("5901,amount.value,of the batch that was lost\n")
    job = import_transactions(path, client=bank)
    assert (job.pk, job.accepted, job.rejected, job.next_row) == (halfway.pk, 5_997, 3, 6_000)
    stored = list(Transaction.objects.order_by("external_id").values_list("external_id", "amount"))
    assert stored == [(row[0], int(row[3])) for row in rows if row[3] != "not money"]
    assert [row["line"] for row in csv.DictReader(rejects_path(path).read_text().splitlines())] == [
        "12",
        "2502",
        "5902",
    ]


_KILLABLE = """
import sys, time
from fraudsite import embedded
import os
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fraudsite.settings")
import django
django.setup()
from pathlib import Path
from transactions import imports
from transactions.models import ApiClient
imports.ROWS = 500
imports.import_transactions(Path(sys.argv[1]), client=ApiClient.objects.get(), progress=lambda done, of:
time.sleep(0.05))
"""


def _test_database_url() -> str:
    name = connection.settings_dict["NAME"]
    return os.environ["DATABASE_URL"].rsplit("/", 1)[0] + f"/{name}"
