"""What a case keeps, in a real browser: notes with names and snippets, files, tags, the history, the report."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from hashlib import sha256
from io import BytesIO, StringIO
from pathlib import Path
from typing import NamedTuple
from zipfile import ZipFile

import pytest
from playwright.sync_api import APIResponse, Download, Page, expect

from tests.browser import deeds
from tests.browser.conftest import Visitor
from tests.browser.deskwork import Opened, Team, claim, decide, found, history
from tests.browser.inside import Inside
from tests.running import RunningDesk

pytestmark = pytest.mark.slow
SignIn = Callable[..., Visitor]
PDF = b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n"
MOST_FILES, LARGEST = 20, 25 << 20


class AtCase(NamedTuple):
    """An investigator on a case in hand."""

    visitor: Visitor
    page: Page
    case: Opened
    team: Team


@pytest.fixture
def at_case(shared_team: Team, sign_in: SignIn) -> AtCase:
    case = shared_team.case()
    ada = sign_in(shared_team.ada, case.path)
    claim(ada.page)
    return AtCase(ada, ada.page, case, shared_team)


def bytes_of(saved: Download) -> bytes:
    return Path(saved.path()).read_bytes()


# --- C7: notes --------------------------------------------------------------------------------------------------------


def test_a_note_is_written_by_keyboard_corrected_and_names_a_colleague(at_case: AtCase, sign_in: SignIn) -> None:
    """C7.1: author and time, limited Markdown, immutable (a correction is a new note linked to the old), @mention."""
    page, bo = at_case.page, at_case.team.bo
    page.keyboard.press("c")
    expect(page.get_by_test_id("note-text")).to_be_focused()
    page.keyboard.type(f"**Called** her; @{bo[:4]}")
    expect(page.get_by_role("option", name=re.compile(bo))).to_be_visible()
    page.keyboard.press("Escape")
    page.get_by_test_id("note-text").fill(f"**Called** her, @{bo} please check C-1.")
    page.keyboard.press("Control+Enter")
    note = page.get_by_test_id("note").first
    expect(note.locator("strong")).to_have_text("Called")
    expect(note).to_contain_text(f"Ada {at_case.team.land.title()}")
    expect(note.get_by_role("link", name="C-1", exact=True)).to_have_attribute("href", "/desk/cases/1/")
    note.get_by_role("link", name=re.compile("^Correct the note")).click()
    page.get_by_test_id("note-text").fill("She was not at home.")
    page.get_by_test_id("note-submit").click()
    expect(page.get_by_text("Corrected by a later note")).to_be_visible()
    expect(page.get_by_test_id("note")).to_have_count(2)
    mentioned = sign_in(bo, "/desk/mentions/").page
    expect(mentioned.get_by_test_id("mention").first).to_contain_text("please check C-1")
    mentioned.get_by_test_id("mentions-seen").click()
    expect(mentioned.get_by_text("All seen.")).to_be_visible()


def test_a_card_number_is_refused_and_the_draft_is_kept(at_case: AtCase, inside: Inside) -> None:
    """C7.2: text that holds something like a card number is refused, by the server."""
    page, draft = at_case.page, "Card 4111 1111 1111 1111, she says."
    page.get_by_test_id("note-text").fill(draft)
    page.get_by_test_id("note-submit").click()
    expect(page.get_by_test_id("refusal")).to_contain_text("looks like a card number")
    expect(page.get_by_test_id("note-text")).to_have_value(draft)
    expect(page.get_by_test_id("note")).to_have_count(0)


def test_a_snippet_goes_into_the_note(at_case: AtCase) -> None:
    """C7.3: canned snippets."""
    page = at_case.page
    at_case.visitor.open("/desk/snippets/")
    page.get_by_test_id("snippet-title").fill("Called")
    page.get_by_test_id("snippet-text").fill("Called the number on file.")
    page.get_by_test_id("snippet-submit").click()
    at_case.visitor.open(at_case.case.path)
    page.get_by_test_id("snippet-open").click()
    page.get_by_role("button", name="Called", exact=True).click()
    expect(page.get_by_test_id("note-text")).to_have_value("Called the number on file.")


def test_a_note_about_the_customer_appears_in_a_later_case(at_case: AtCase) -> None:
    """C7.4: entity notes appear in later cases."""
    page = at_case.page
    payment = at_case.team.payment()
    first = at_case.team.case(payment)
    at_case.visitor.open(first.path)
    claim(page)
    page.get_by_test_id("note-about").select_option("customer")
    page.get_by_test_id("note-text").fill("Rings back in the evening only.")
    page.get_by_test_id("note-submit").click()
    expect(page.get_by_test_id("note")).to_contain_text("About the customer")
    decide(page, "l")
    expect(page.get_by_test_id("case-status")).to_contain_text("Closed")
    later = at_case.team.case(at_case.team.payment() | {"customer": payment["customer"]})
    assert later.case != first.case
    at_case.visitor.open(later.path)
    expect(page.get_by_test_id("note")).to_contain_text("Rings back in the evening only.")
    expect(page.get_by_test_id("note")).to_contain_text(f"from {first.number}")
    expect(page.get_by_test_id("earlier-cases")).to_contain_text(first.number)


# --- C8: files --------------------------------------------------------------------------------------------------------


def send_file(at: AtCase, name: str, content: bytes) -> APIResponse:
    """A file by direct POST."""
    cookies = {each["name"]: each["value"] for each in at.page.context.cookies()}
    return at.page.request.post(
        f"{at.visitor.desk.url}{at.case.path}files/",
        multipart={"file": {"name": name, "mimeType": "application/octet-stream", "buffer": content}},
        headers={"X-CSRFToken": cookies["csrftoken"]},
        max_redirects=0,
    )


def test_a_file_is_kept_with_its_hash_given_out_as_a_download_and_removed_by_a_lead_only(
    at_case: AtCase, tmp_path: Path, sign_in: SignIn
) -> None:
    """C8.1: SHA-256 shown; a download with nosniff; delete is a tombstone, by a lead."""
    page = at_case.page
    evidence = tmp_path / "Statement.pdf"
    evidence.write_bytes(PDF)
    page.get_by_role("tab", name=re.compile("^Files")).click()
    page.get_by_test_id("file-choice").set_input_files(evidence)
    page.get_by_test_id("file-submit").click()
    row = page.get_by_test_id("file")
    expect(row).to_contain_text("Statement.pdf")
    expect(row.locator("code")).to_have_attribute("title", sha256(PDF).hexdigest())
    at_case.visitor.shot("case-files")
    with page.expect_download() as saved:
        row.get_by_role("link", name="Statement.pdf").click()
    assert bytes_of(saved.value) == PDF
    link = row.get_by_role("link", name="Statement.pdf").get_attribute("href") or ""
    answer = page.request.get(at_case.visitor.desk.url + link)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-disposition"].startswith("attachment")
    expect(row.get_by_text("Remove…")).to_have_count(0)
    assert at_case.visitor.send(f"{link}remove/", reason="It is not wanted here.").status == 403
    at_case.visitor.send(f"{at_case.case.path}release/")
    lena = sign_in(at_case.team.lena, at_case.case.path + "#files").page
    lena.get_by_text("Remove…").click()
    lena.get_by_label("Why it goes; its row stays").fill("It belongs to another case.")
    lena.get_by_role("button", name="Remove", exact=True).click()
    lena.get_by_role("tab", name=re.compile("^Files")).click()
    expect(lena.get_by_test_id("file")).to_contain_text("It belongs to another case.")
    assert page.request.get(at_case.visitor.desk.url + link).status == 410


def test_wrong_large_and_too_many_files_are_refused(at_case: AtCase, tmp_path: Path, inside: Inside) -> None:
    """C8.2: type by content, ≤ 25 MB each, ≤ 20 per case."""
    page, at = at_case.page, at_case
    wrong, large = tmp_path / "Statement.pdf", tmp_path / "Large.pdf"
    wrong.write_bytes(b"MZ")
    with large.open("wb") as file:
        file.write(PDF)
        file.truncate(LARGEST + 1)
    page.get_by_role("tab", name=re.compile("^Files")).click()
    page.get_by_test_id("file-choice").set_input_files(large)
    expect(page.locator("[data-upload-words]")).to_contain_text("larger than 25 MB")
    page.get_by_test_id("file-choice").set_input_files(wrong)
    page.get_by_test_id("file-submit").click()
    expect(page.get_by_test_id("refusal")).to_contain_text("the content does not")
    assert send_file(at, "Tool.exe", b"MZ\0\0").status == 422
    inside(deeds.attach, case=at.case.case, username=at.team.ada, many=MOST_FILES - 1)
    assert send_file(at, "last.txt", b"The last that fits").status == 302
    assert send_file(at, "more.txt", b"One too many").status == 422
    at.visitor.open(at.case.path + "#files")
    page.get_by_role("tab", name=re.compile("^Files")).click()
    expect(page.get_by_test_id("file")).to_have_count(MOST_FILES)
    expect(page.get_by_test_id("file-submit")).to_have_count(0)


def test_tags_are_put_on_and_taken_off(at_case: AtCase) -> None:
    page = at_case.page
    page.get_by_test_id("tag-text").fill("Ring mule")
    page.get_by_test_id("tag-submit").click()
    expect(page.get_by_test_id("tags")).to_contain_text("mule")
    page.get_by_role("button", name="Take the tag ring off").click()
    expect(page.get_by_test_id("tags")).not_to_contain_text("ring")


# --- C13, C14: what leaves the desk -----------------------------------------------------------------------------------


def test_the_history_tells_acts_and_looks_is_exported_and_nobody_can_delete_a_line(
    at_case: AtCase, sign_in: SignIn
) -> None:
    """C13: actor, role, IP, time, request, reads of unmasked data; export CSV and JSON; an auditor sees all, edits
    nothing; no control deletes events."""
    page, case = at_case.page, at_case.case
    page.get_by_test_id("entity-open").click()
    page.get_by_test_id("unmask").click()
    page.get_by_test_id("unmask-reason").fill("The customer is on the phone.")
    page.keyboard.press("Control+Enter")
    expect(page.get_by_test_id("unmasked")).to_be_visible()
    owen = sign_in("auditor", case.path)
    told = history(owen.page)
    for part in ("Opened", "Claimed", "Case viewed", "Unmasked", "The customer is on the phone.", "127.0.0.1"):
        assert part in told, part
    assert "investigator" in told.lower()
    owen.shot("case-history")
    with owen.page.expect_download() as saved:
        owen.page.get_by_test_id("audit-csv").click()
    lines = list(csv.DictReader(StringIO(bytes_of(saved.value).decode())))
    assert {"opened", "claimed", "unmasked"} <= {line["kind"] for line in lines}
    assert all(line["at"].endswith("Z") and line["actor"] for line in lines)
    with owen.page.expect_download() as saved:
        owen.page.get_by_test_id("audit-json").click()
    assert json.loads(bytes_of(saved.value))["case"] == case.number
    expect(owen.page.get_by_role("button", name=re.compile("delete", re.I))).to_have_count(0)
    for control in ("claim", "close-open", "note-submit", "tag-submit", "take-over-open"):
        expect(owen.page.get_by_test_id(control)).to_have_count(0)
    assert owen.send(f"{case.path}claim/").status == 403
    owen.open("/desk/cases/caseevent/")
    expect(owen.page.get_by_role("link", name=re.compile("^(Add|Delete)"))).to_have_count(0)
    expect(owen.page.locator("select[name=action] option[value=delete_selected]")).to_have_count(0)


def test_one_click_gives_the_report_with_the_files_and_their_hashes(at_case: AtCase) -> None:
    """C14: PDF or ZIP with facts, reasons, timeline, notes, decisions, and the files with their hashes."""
    page, number = at_case.page, at_case.case.number
    assert send_file(at_case, "Statement.pdf", PDF).status == 302
    at_case.visitor.open(at_case.case.path)
    page.get_by_role("tab", name=re.compile("^Files")).click()
    with page.expect_download() as saved:
        page.get_by_test_id("report-pdf").click()
    assert bytes_of(saved.value).startswith(b"%PDF-")
    with page.expect_download() as saved:
        page.get_by_test_id("report-zip").click()
    assert saved.value.suggested_filename == f"{number}.zip"
    with ZipFile(BytesIO(bytes_of(saved.value))) as pack:
        told = json.loads(pack.read(f"{number}.json"))
        lines = pack.read("SHA256SUMS").decode().splitlines()
        sums = {name: digest for digest, name in (line.split("  ") for line in lines)}
        for name, digest in sums.items():
            assert sha256(pack.read(name)).hexdigest() == digest
    assert {"in_full", "timeline", "notes", "files", "history"} <= told.keys()
    assert sha256(PDF).hexdigest() in sums.values()


# --- C15: what is learnt later ----------------------------------------------------------------------------------------


def test_a_chargeback_after_the_close_is_a_late_label_that_a_lead_deals_with(
    running_desk: RunningDesk, inside: Inside, sign_in: SignIn
) -> None:
    """C15: "late label", the contradicted cases are listed, a lead decides on the reopening."""
    team = found(running_desk, inside)
    payment = team.payment()
    case = team.case(payment)
    ada = sign_in(team.ada, case.path)
    claim(ada.page)
    decide(ada.page, "l")
    expect(ada.page.get_by_test_id("case-status")).to_contain_text("Closed")
    label = {"external_id": payment["external_id"], "verdict": "fraud", "source": "chargeback"}
    status, answer = running_desk.api("POST", "/api/v1/labels", label | {"fraud_type": "card_not_present"})
    assert status in (200, 201, 202), answer
    inside(deeds.find_late_labels)
    ada.page.reload()
    expect(ada.page.get_by_test_id("late-label")).to_contain_text("Chargeback says fraud")
    assert inside(deeds.state, case=case.case)["status"] == "closed", "a label alone changes no decision"
    lena = sign_in(team.lena, "/desk/late-labels/")
    row = lena.page.get_by_test_id("late-case").filter(has_text=case.number)
    expect(row).to_contain_text("closed as legitimate")
    lena.shot("late-labels")
    row.get_by_test_id("late-reason").fill("The chargeback is convincing.")
    row.get_by_test_id("late-reopen").click()
    expect(lena.page.get_by_test_id("case-status")).to_contain_text("In review")
    assert ada.send("/desk/late-labels/", case=str(case.case), act="leave", reason="I do not agree.").status == 403
