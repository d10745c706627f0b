"""What a case keeps, in a real browser: notes with names and snippets, files, tags, the history, the report."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

PDF = b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n"


@pytest.fixture
def at_case(sign_in):
    """An investigator on a case in hand."""
    ines = sign_in("investigator")
    ines.open("/desk/queue/")
    ines.page.keyboard.press("n")
    ines.page.wait_for_url(re.compile(r"/desk/cases/\d+/"))
    return ines


def test_a_note_is_written_by_keyboard_corrected_and_names_a_colleague(at_case, sign_in):
    page = at_case.page
    page.keyboard.press("c")
    expect(page.get_by_test_id("note-text")).to_be_focused()
    page.keyboard.type("**Called** her; @inv")
    expect(page.get_by_role("option")).not_to_have_count(0)
    page.keyboard.press("Escape")
    page.get_by_test_id("note-text").fill("**Called** her, @investigator2 please check C-1.")
    page.keyboard.press("Control+Enter")
    note = page.get_by_test_id("note").first
    expect(note.locator("strong")).to_have_text("Called")
    expect(note.get_by_role("link", name="C-1", exact=True)).to_have_attribute("href", "/desk/cases/1/")
    note.get_by_role("link", name=re.compile("^Correct the note")).click()
    page.get_by_test_id("note-text").fill("She was not at home.")
    page.get_by_test_id("note-submit").click()
    expect(page.get_by_text("Corrected by a later note")).to_be_visible()
    tomas = sign_in("investigator2")
    tomas.open("/desk/mentions/")
    expect(tomas.page.get_by_test_id("mention").first).to_contain_text("please check C-1")
    tomas.page.get_by_test_id("mentions-seen").click()
    expect(tomas.page.get_by_text("All seen.")).to_be_visible()


def test_a_card_number_is_refused_and_the_draft_is_kept(at_case):
    page = at_case.page
    page.get_by_test_id("note-text").fill("Card 4111 1111 1111 1111, she says.")
    page.get_by_test_id("note-submit").click()
    expect(page.get_by_test_id("refusal")).to_contain_text("looks like a card number")
    expect(page.get_by_test_id("note-text")).to_have_value("Card 4111 1111 1111 1111, she says.")


def test_a_snippet_goes_into_the_note(at_case):
    page = at_case.page
    where = page.url
    at_case.open("/desk/snippets/")
    page.get_by_test_id("snippet-title").fill("Called")
    page.get_by_test_id("snippet-text").fill("Called the number on file.")
    page.get_by_test_id("snippet-submit").click()
    page.goto(where)
    page.get_by_test_id("snippet-open").click()
    page.get_by_role("button", name="Called", exact=True).click()
    expect(page.get_by_test_id("note-text")).to_have_value("Called the number on file.")


def test_tags_files_history_and_report(at_case, tmp_path: Path):
    page = at_case.page
    page.get_by_test_id("tag-text").fill("Ring mule")
    page.get_by_test_id("tag-submit").click()
    expect(page.get_by_test_id("tags")).to_contain_text("mule")
    evidence = tmp_path / "Statement.pdf"
    evidence.write_bytes(PDF)
    page.get_by_role("tab", name=re.compile("^Files")).click()
    page.get_by_test_id("file-choice").set_input_files(evidence)
    page.get_by_test_id("file-submit").click()
    row = page.get_by_test_id("file")
    expect(row).to_contain_text("Statement.pdf")
    at_case.shot("case-files")
    with page.expect_download() as saved:
        row.get_by_role("link", name="Statement.pdf").click()
    assert Path(saved.value.path()).read_bytes() == PDF
    with page.expect_download() as saved:
        page.get_by_test_id("report-zip").click()
    assert saved.value.suggested_filename.endswith(".zip")
    page.get_by_role("tab", name="History").click()
    expect(page.get_by_test_id("history-line").first).to_be_visible()
    expect(page.get_by_test_id("history")).to_contain_text("File added")
    at_case.shot("case-history")


def test_a_file_that_is_not_what_it_says_is_refused(at_case, tmp_path: Path):
    page = at_case.page
    wrong = tmp_path / "Statement.pdf"
    wrong.write_bytes(b"MZ")
    page.get_by_role("tab", name=re.compile("^Files")).click()
    page.get_by_test_id("file-choice").set_input_files(wrong)
    page.get_by_test_id("file-submit").click()
    expect(page.get_by_test_id("refusal")).to_contain_text("the content does not")


def test_a_lead_sees_late_labels(sign_in):
    maren = sign_in("lead")
    maren.open("/desk/late-labels/")
    expect(maren.page.get_by_role("heading", name="Late labels")).to_be_visible()
    maren.shot("late-labels")
