"""The report pack: it says what the desk says, holds every file with its hash, and draws every name."""

import hashlib
import json
import tempfile
import zipfile

import pytest

from cases import attachments, packs, report, services
from cases.attachments import attach
from tests.factories import (
    LEAD,
    WORK,
    make_alert,
    make_case,
    make_close_reason,
    make_explanation,
    make_queue,
    make_user,
)

WHY = "Customer denies the payment on the phone."


@pytest.fixture(autouse=True)
def folder(settings, tmp_path):
    settings.ATTACHMENT_DIR = tmp_path / "attachments"
    settings.ATTACHMENT_SCAN = []


@pytest.fixture
def owner(db):
    return make_user("ines", *WORK, first_name="Zoë", last_name="Łukasiewicz")


@pytest.fixture
def case(owner):
    make_close_reason("denies")
    worst = make_alert(
        "cust-4417", score=930, outcome="decline", card="card-token-1", document={"card": {"last4": "1234"}}
    )
    make_explanation(worst)
    case = services.claim(make_case(worst, make_alert("cust-4417"), queue=make_queue(owner)).pk, owner)
    services.add_note(case.pk, "Called **Søren Ångström**, Димитър & 李.", by=owner)
    attach(case.pk, "a.txt", [b"evidence"], by=owner)
    attach(case.pk, "a.pdf", [b"%PDF-1.7 more"], by=owner)
    services.close_case(
        case.pk, "confirmed_fraud", by=owner, fraud_type="account_takeover", close_reason="denies", rationale=WHY
    )
    case.refresh_from_db()
    return case


def test_the_document_says_what_the_desk_says(case, owner):
    told = packs.document(case, owner)
    assert told["case"]["disposition"] == "Confirmed fraud"
    assert told["case"]["customer"] == "CU ••4417"
    assert told["in_full"][0]["rules"][0]["text"].startswith("7 payments")
    assert told["in_full"][0]["factors"]
    assert told["notes"][0]["text"].startswith("Called")
    assert [each["name"] for each in told["files"]] == ["a.txt", "a.pdf"]
    assert {"closed", "claimed", "file added"} <= {line["kind"] for line in told["history"]}
    assert told["timeline"]
    assert "cust-4417" not in json.dumps(told)


def test_the_pdf_embeds_its_font_and_tells_what_it_cannot_draw(case, owner):
    told = packs.document(case, owner)
    pdf = report.drawn(told)
    assert pdf.startswith(b"%PDF-")
    assert b"Inter" in pdf
    assert b"FontFile2" in pdf
    assert report._drawable("Zoë Łukasiewicz, Димитър, Ελένη, Nguyễn") == "Zoë Łukasiewicz, Димитър, Ελένη, Nguyễn"
    assert report._drawable("李 →") == "¤ ›"
    assert report._lacks_letters(told)


def test_the_zip_holds_pdf_json_files_and_their_sums(case, owner):
    file, digest = packs.make_zip(case, owner)
    assert hashlib.sha256(file.read()).hexdigest() == digest
    with file, zipfile.ZipFile(file) as archive:
        first, second = attachments.of(case)
        names = {f"{case.number}.pdf", f"{case.number}.json", f"files/{first.pk}-a.txt", f"files/{second.pk}-a.pdf"}
        assert set(archive.namelist()) == names | {"SHA256SUMS"}
        for line in archive.read("SHA256SUMS").decode().splitlines():
            digest, name = line.split("  ")
            assert hashlib.sha256(archive.read(name)).hexdigest() == digest
        assert json.loads(archive.read(f"{case.number}.json"))["case"]["number"] == case.number


def test_a_pack_is_never_silently_short(case, owner):
    attachments.path_of(attachments.of(case)[0]).unlink()
    with pytest.raises(attachments.LostFile):
        packs.make_zip(case, owner)


def test_a_pack_that_fails_leaves_no_open_file(case, owner, monkeypatch):
    made = [tempfile.TemporaryFile()]  # noqa: SIM115  (whether it is closed is what is asked)
    monkeypatch.setattr(packs.tempfile, "TemporaryFile", lambda: made[0])
    attachments.path_of(attachments.of(case)[1]).unlink()
    with pytest.raises(attachments.LostFile):
        packs.make_zip(case, owner)
    assert [each.closed for each in made] == [True]


def test_a_removed_file_is_listed_without_its_bytes(case, owner, django_capture_on_commit_callbacks):
    lead = make_user("lead", *LEAD)
    case.queue.members.add(lead)
    with django_capture_on_commit_callbacks(execute=True):
        attachments.remove(attachments.of(case)[0].pk, by=lead, reason="Belongs to another customer.")
    file, _ = packs.make_zip(case, owner)
    with file, zipfile.ZipFile(file) as archive:
        assert sum(name.startswith("files/") for name in archive.namelist()) == 1
    assert "Belongs to another" in packs.document(case, owner)["files"][0]["removed"]
