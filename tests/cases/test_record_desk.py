"""The doors to a case's record: who may, what a refusal leaves, and what leaves the desk."""

import io
import zipfile

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse

from cases import attachments, notes, services
from cases.models import Attachment, Case, CaseEvent, Mention, Note, Sighting, Snippet
from tests.factories import LEAD, READ, WORK, make_alert, make_case, make_queue, make_user

PDF = b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n"


@pytest.fixture(autouse=True)
def folder(settings, tmp_path):
    settings.ATTACHMENT_DIR = tmp_path / "attachments"
    settings.ATTACHMENT_SCAN = []


@pytest.fixture
def owner(db):
    return make_user("ines", *WORK)


@pytest.fixture
def lead(db):
    return make_user("lead", *LEAD)


@pytest.fixture
def stranger(db):
    return make_user("stranger", *WORK)


@pytest.fixture
def auditor(db):
    return make_user("owen", *READ)


@pytest.fixture
def case(owner, lead):
    return make_case(make_alert("cust-1", card="card-1"), queue=make_queue(owner, lead))


def url(name, case, *more):
    return reverse(f"admin:{name}", args=[case.pk, *more])


def body(response):
    return b"".join(response.streaming_content) if response.streaming else response.content


def file(name="a.pdf", content=PDF):
    return SimpleUploadedFile(name, content, content_type="text/html")


# --- notes, tags, mentions --------------------------------------------------------------------------------------------


def test_a_note_is_written_and_shown_with_its_markup(as_user, owner, case):
    client = as_user(owner)
    answer = client.post(url("case_note", case), {"text": "**Called** her, see C-1.", "about": "card"})
    note = Note.objects.get()
    assert answer.url == f"/desk/cases/{case.pk}/#note-{note.pk}"
    text = client.get(url("case", case)).content.decode()
    assert '<strong>Called</strong> her, see <a href="/desk/cases/1/">C-1</a>' in text
    assert note.entity_kind == "card"


def test_a_refused_note_keeps_the_draft_unless_it_holds_a_card_number(as_user, owner, stranger, case):
    client = as_user(owner)
    answer = client.post(url("case_note", case), {"text": "@stranger please look."})
    assert answer.status_code == 422
    assert "@stranger please look.</textarea>" in answer.content.decode()
    answer = client.post(url("case_note", case), {"text": "Card 4111 1111 1111 1111 was used."})
    text = answer.content.decode()
    assert answer.status_code == 422
    assert "looks like a card number" in text
    assert "1111 1111" not in text  # the browser keeps the draft by itself
    assert not Note.objects.exists()


def test_a_correction_is_offered_and_linked(as_user, owner, case):
    old = services.add_note(case.pk, "Lives in Berlin.", by=owner)
    client = as_user(owner)
    assert "Lives in Berlin.</textarea>" in client.get(url("case", case) + f"?correct={old.pk}").content.decode()
    client.post(url("case_note", case), {"text": "Lives in Bern.", "corrects": old.pk})
    text = client.get(url("case", case)).content.decode()
    assert "Corrected by a later note" in text
    assert "Corrects an earlier note" in text


def test_tags_are_put_on_and_taken_off(as_user, owner, case):
    client = as_user(owner)
    client.post(url("case_tags", case), {"tags": "Mule ring"})
    client.post(url("case_tags", case), {"remove": "mule"})
    assert Case.objects.get(pk=case.pk).tags == ["ring"]
    assert client.post(url("case_tags", case), {"tags": "a/b"}).status_code == 422


def test_the_mentions_page_lists_opens_and_clears(as_user, owner, lead, case):
    services.add_note(case.pk, "@lead please look.", by=owner)
    client = as_user(lead)
    page = client.get(reverse("admin:mentions")).content.decode()
    assert "1 not seen yet" in page
    mention = Mention.objects.get()
    answer = client.post(reverse("admin:mention", args=[mention.pk]))
    assert answer.url == f"/desk/cases/{case.pk}/#note-{mention.note_id}"
    assert "All seen" in client.get(reverse("admin:mentions")).content.decode()
    assert as_user(owner).post(reverse("admin:mention", args=[mention.pk])).status_code == 404


def test_a_writer_is_offered_the_queues_people_and_snippets(as_user, owner, case, stranger):
    Snippet.objects.create(title="Call", text="Called the number on file.")
    client = as_user(owner)
    assert [each["user"] for each in client.get(url("case_people", case) + "?q=l").json()["people"]] == ["lead"]
    answer = client.get(reverse("admin:snippets"), headers={"X-Requested-With": "desk"})
    assert answer.json() == {"snippets": [{"title": "Call", "text": "Called the number on file."}]}
    assert as_user(stranger).get(url("case_people", case)).status_code == 404


def test_snippets_are_kept_changed_and_removed(as_user, owner):
    client, page = as_user(owner), reverse("admin:snippets")
    client.post(page, {"title": "Call", "text": "Called."})
    kept = Snippet.objects.get()
    client.post(page, {"id": kept.pk, "title": "Call", "text": "Called twice."})
    assert "Called twice." in client.get(page).content.decode()
    assert client.post(page, {"title": "All", "text": "x", "whose": "team"}).status_code == 403
    client.post(page, {"id": kept.pk, "act": "remove"})
    assert not Snippet.objects.exists()


# --- files ------------------------------------------------------------------------------------------------------------


def test_a_file_is_attached_listed_and_saved_never_shown(as_user, owner, case):
    client = as_user(owner)
    answer = client.post(url("case_files", case), {"file": [file("Bon à payer.pdf"), file("b.txt", b"words")]})
    assert answer.url.endswith("#files")
    first = Attachment.objects.first()
    assert 'Files <span class="d-count">2</span>' in client.get(url("case", case)).content.decode()
    text = client.get(url("case_files", case), headers={"X-Requested-With": "desk"}).content.decode()
    assert first.sha256 in text
    assert "not scanned" in text
    saved = client.get(url("case_file", case, first.pk))
    assert body(saved) == PDF
    assert saved["X-Content-Type-Options"] == "nosniff"
    assert saved["Content-Type"] == "application/pdf"
    assert saved["Content-Disposition"].startswith("attachment;")
    assert "sandbox" in saved["Content-Security-Policy"]
    assert "no-store" in saved["Cache-Control"]
    assert Sighting.objects.get(act="exported").data["sha256"] == first.sha256


def test_files_are_for_members_and_of_their_own_case(as_user, owner, stranger, auditor, case):
    attach = attachments.attach(case.pk, "a.pdf", [PDF], by=owner)
    other = make_case(make_alert("cust-2"), queue=make_queue(stranger, name="Others"))
    assert as_user(stranger).get(url("case_file", case, attach.pk)).status_code == 404
    assert as_user(stranger).get(url("case_file", other, attach.pk)).status_code == 404
    assert as_user(stranger).post(url("case_files", case), {"file": file()}).status_code == 404
    assert body(as_user(auditor).get(url("case_file", case, attach.pk))) == PDF
    assert as_user(auditor).post(url("case_files", case), {"file": file()}).status_code == 403
    assert "a.pdf" in as_user(auditor).get(url("case_files", case)).content.decode()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.pdf", b"MZ", "the content does not"),
        ("a.html", b"<b>", "files only"),
        ("a.txt", b"4111111111111111", "Line 1"),
    ],
)
def test_a_refused_file_says_why(as_user, owner, case, name, content, said):
    answer = as_user(owner).post(url("case_files", case), {"file": file(name, content)})
    assert answer.status_code == 422
    assert said in answer.content.decode()
    assert not Attachment.objects.exists()


def test_a_file_that_is_too_large_is_dropped_while_it_comes_in(as_user, owner, case, monkeypatch):
    monkeypatch.setattr("cases.uploads.LARGEST", 70_000)
    answer = as_user(owner).post(url("case_files", case), {"file": [file("big.pdf", PDF + bytes(300_000)), file()]})
    assert answer.status_code == 422
    assert "big.pdf is larger than 25 MB" in answer.content.decode()
    assert not Attachment.objects.exists()


def test_no_more_than_five_files_come_at_once(as_user, owner, case):
    files = [file(f"{n}.txt", f"text {n}".encode()) for n in range(6)]
    assert as_user(owner).post(url("case_files", case), {"file": files}).status_code == 422
    assert not Attachment.objects.exists()


def test_only_a_lead_removes_a_file(as_user, owner, lead, case):
    made = attachments.attach(case.pk, "a.pdf", [PDF], by=owner)
    why = {"reason": "Belongs to another customer."}
    assert as_user(owner).post(url("case_file_remove", case, made.pk), why).status_code == 403
    as_user(lead).post(url("case_file_remove", case, made.pk), why)
    made.refresh_from_db()
    assert made.removed_by == lead
    assert as_user(lead).get(url("case_file", case, made.pk)).status_code == 410


# --- what leaves the desk ---------------------------------------------------------------------------------------------


def test_one_click_gives_the_report_and_leaves_a_sighting(as_user, owner, case):
    client = as_user(owner)
    pdf = client.post(url("case_pack", case, "pdf"))
    assert body(pdf).startswith(b"%PDF-")
    packed = body(client.post(url("case_pack", case, "zip")))
    assert "SHA256SUMS" in zipfile.ZipFile(io.BytesIO(packed)).namelist()
    assert [each.data["what"] for each in Sighting.objects.filter(act="exported").order_by("pk")] == [
        "report pdf",
        "report zip",
    ]
    assert client.post(url("case_pack", case, "exe")).status_code == 404


def test_a_stranger_gets_no_report_no_history_and_no_export(as_user, stranger, case):
    client = as_user(stranger)
    for answer in (
        client.post(url("case_pack", case, "pdf")),
        client.get(url("case_history", case)),
        client.post(url("case_history_export", case, "csv")),
    ):
        assert answer.status_code == 404
    assert not Sighting.objects.filter(act="exported").exists()


def test_the_history_comes_as_a_piece_and_as_a_page(as_user, owner, case):
    services.claim(case.pk, owner)
    client = as_user(owner)
    piece = client.get(url("case_history", case), headers={"X-Requested-With": "desk"}).content.decode()
    assert "Claimed" in piece
    assert "<html" not in piece
    assert "Claimed" in client.get(url("case_history", case)).content.decode()


def test_the_export_is_itself_a_line_of_the_history(as_user, auditor, case):
    client = as_user(auditor)
    text = body(client.post(url("case_history_export", case, "csv"))).decode()
    assert "exported" in text
    assert body(client.post(url("case_history_export", case, "json"))).startswith(b'{"case"')


# --- late labels ------------------------------------------------------------------------------------------------------


def test_the_late_labels_page_is_for_leads(as_user, owner, lead, case):
    page = reverse("admin:late_labels")
    assert as_user(owner).get(page).status_code == 403
    assert "Nothing contradicts" in as_user(lead).get(page).content.decode()
    assert as_user(lead).post(page, {"case": case.pk, "act": "reopen", "reason": "no"}).status_code == 422
    assert not CaseEvent.objects.filter(kind="reopened").exists()


def test_a_mention_in_a_note_of_an_entity_leads_to_the_entity(as_user, owner, lead, case):
    notes.add_entity_note("customer", case.customer, "@lead please look.", by=owner)
    client = as_user(lead)
    assert "Open the customer" in client.get(reverse("admin:mentions")).content.decode()
    answer = client.post(reverse("admin:mention", args=[Mention.objects.get().pk]))
    assert answer.url == reverse("admin:entity", args=["customer", str(case.customer)]) + "#notes"
    assert client.get(answer.url).status_code == 200
