"""Files of a case: what is taken, how it is kept, and that no row is without its file."""

import io
import os
import stat
import time
import zipfile

import pytest
from django.db.transaction import atomic

from cases import attachments, sniffing
from cases.attachments import attach, path_of, remove, sweep
from cases.history import NotAllowed
from cases.models import Attachment, CaseEvent
from cases.sniffing import RefusedFile
from cases.workflow import CaseError
from tests.factories import LEAD, WORK, make_case, make_queue, make_user

PDF = b"%PDF-1.7\n%\xe2\xe3\n1 0 obj\n<<>>\nendobj\n"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(40)
JPG = b"\xff\xd8\xff\xe0" + bytes(40)
MAIL = b"From: a@example.com\r\nTo: b@example.com\r\nSubject: Hello\r\n\r\nText"


def office(*names, content=b"<x/>"):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, content)
    return out.getvalue()


DOCX = office("[Content_Types].xml", "word/document.xml")
XLSX = office("[Content_Types].xml", "xl/workbook.xml")


@pytest.fixture(autouse=True)
def folder(settings, tmp_path):
    settings.ATTACHMENT_DIR = tmp_path / "attachments"
    settings.ATTACHMENT_SCAN = []
    return settings.ATTACHMENT_DIR


@pytest.fixture
def owner(db):
    return make_user("ines", *WORK)


@pytest.fixture
def lead(db):
    return make_user("lead", *LEAD)


@pytest.fixture
def case(owner, lead):
    return make_case(queue=make_queue(owner, lead))


def kept(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


# --- what it is -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("a.pdf", PDF, "pdf"),
        ("A.PNG", PNG, "png"),
        ("a.jpeg", JPG, "jpg"),
        ("a.txt", "Grüße".encode(), "txt"),
        ("a.txt", "Grüße".encode("cp1252"), "txt"),
        ("a.txt", "Grüße".encode("utf-16"), "txt"),
        ("a.csv", b"a;b\r\n1;2\r\n", "csv"),
        ("a.docx", DOCX, "docx"),
        ("a.xlsx", XLSX, "xlsx"),
        ("a.eml", MAIL, "eml"),
    ],
)
def test_the_content_says_what_a_file_is(name, content, kind):
    assert sniffing.kind_of(io.BytesIO(content), name) == kind


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.exe", b"MZ"),
        ("a", PDF),
        ("a.pdf", b"MZ\x90\x00"),
        ("a.pdf", b""),
        ("a.pdf", PNG),
        ("a.png", b"<svg onload=alert(1)>"),
        ("a.txt", b"\x7fELF\x02\x01"),
        ("a.txt", PDF),
        ("a.eml", b"just words"),
        ("a.docx", XLSX),
        ("a.docx", office("readme.txt")),
        ("a.docx", office("word/document.xml")),
        ("a.docx", b"PK\x03\x04 broken"),
        ("a.docx", DOCX[:-30]),
        ("a.docx", office("[Content_Types].xml", "word/document.xml", "word/vbaProject.bin")),
        ("a.zip", DOCX),
    ],
)
def test_what_is_none_of_the_kinds_or_not_what_it_says_is_refused(name, content):
    with pytest.raises(RefusedFile):
        sniffing.kind_of(io.BytesIO(content), name)


def test_a_bomb_is_refused_without_being_unpacked():
    bomb = office("[Content_Types].xml", "word/document.xml", content=bytes(60_000_000))
    with pytest.raises(RefusedFile, match="larger inside"):
        sniffing.kind_of(io.BytesIO(bomb), "a.docx")
    many = office("[Content_Types].xml", "word/document.xml", *(f"part{n}" for n in range(5_001)))
    with pytest.raises(RefusedFile, match="too many parts"):
        sniffing.kind_of(io.BytesIO(many), "a.docx")


def test_a_list_that_says_it_is_longer_elsewhere_is_refused():
    """ZIP64 names a second list, whose length the bound would not see."""
    place = DOCX.rindex(b"PK\x05\x06")
    locator = b"PK\x06\x07" + bytes(16)
    with pytest.raises(RefusedFile, match="too many parts"):
        sniffing.kind_of(io.BytesIO(DOCX[:place] + locator + DOCX[place:]), "a.docx")


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("../../etc/passwd.txt", "passwd.txt"),
        ("C:\\mails\\a.eml", "a.eml"),
        ("a\x00b\r\n.pdf", "a_b__.pdf"),
        ("x" * 300 + ".pdf", "x" * 187 + ".pdf"),
        ("in\u202efdp.exe.pdf", "in_fdp.exe.pdf"),
        ("...", "file"),
    ],
)
def test_a_name_loses_its_folders_and_tricks(given, name):
    assert attachments.safe_name(given) == name


# --- how it is kept ---------------------------------------------------------------------------------------------------


def test_a_file_is_kept_under_a_random_name_with_its_hash(case, owner, folder):
    made = attach(case.pk, "../Statement.pdf", [PDF[:9], PDF[9:]], by=owner)
    path = path_of(made)
    assert (made.name, made.kind, made.size, made.scanned) == ("Statement.pdf", "pdf", len(PDF), "")
    assert path.read_bytes() == PDF
    assert "Statement" not in str(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    [line] = CaseEvent.objects.filter(case=case, kind="file_added")
    assert line.data["sha256"] == made.sha256


def test_the_same_content_again_is_the_same_file(case, owner, folder):
    first = attach(case.pk, "a.pdf", [PDF], by=owner)
    assert attach(case.pk, "again.pdf", [PDF], by=owner) == first
    assert len(kept(folder)) == 1


def test_nothing_of_a_refused_file_stays(case, owner, folder, monkeypatch):
    monkeypatch.setattr(attachments, "LARGEST", 1000)
    for name, content in (("a.pdf", PDF * 100), ("a.pdf", PNG), ("a.csv", b"card\n4111111111111111\n")):
        with pytest.raises(RefusedFile):
            attach(case.pk, name, [content], by=owner)
    assert kept(folder) == []
    assert not Attachment.objects.exists()


def test_a_card_number_is_told_by_its_line_only(case, owner):
    with pytest.raises(RefusedFile, match="Line 3 ") as refused:
        attach(case.pk, "a.csv", [b"a,b\n1,2\n3,4111 1111 1111 1111\n"], by=owner)
    assert "4111" not in str(refused.value)


def test_a_row_that_cannot_be_written_leaves_no_file(case, owner, folder, monkeypatch):
    def full(*args, **kwargs):
        raise RuntimeError("no room")

    monkeypatch.setattr(attachments, "write", full)
    with pytest.raises(RuntimeError):
        attach(case.pk, "a.pdf", [PDF], by=owner)
    assert kept(folder) == []
    assert not Attachment.objects.exists()


def test_a_cut_off_upload_leaves_nothing(case, owner, folder):
    def cut():
        yield PDF
        raise ConnectionError

    with pytest.raises(ConnectionError):
        attach(case.pk, "a.pdf", cut(), by=owner)
    assert kept(folder) == []


def test_a_case_has_at_most_twenty_files(case, owner):
    for n in range(attachments.MOST_FILES):
        attach(case.pk, f"{n}.txt", [f"text {n}".encode()], by=owner)
    with pytest.raises(RefusedFile, match="at most 20"):
        attach(case.pk, "one-more.txt", [b"one more"], by=owner)


def test_strangers_attach_nothing(case):
    with pytest.raises(NotAllowed):
        attach(case.pk, "a.pdf", [PDF], by=make_user("stranger", *WORK))


@pytest.mark.parametrize(
    ("script", "scanned", "refused"),
    [("exit 0", "clean (sh)", ""), ("exit 1", "", "found something"), ("exit 2", "", "failed")],
)
def test_the_virus_scan_decides(case, owner, settings, folder, script, scanned, refused):
    settings.ATTACHMENT_SCAN = ["sh", "-c", script]
    if not refused:
        assert attach(case.pk, "a.pdf", [PDF], by=owner).scanned == scanned
        return
    with pytest.raises(RefusedFile, match=refused):
        attach(case.pk, "a.pdf", [PDF], by=owner)
    assert kept(folder) == []


def test_a_scanner_that_is_not_there_lets_nothing_in(case, owner, settings):
    settings.ATTACHMENT_SCAN = ["/nonexistent/scanner"]
    with pytest.raises(RefusedFile, match="does not answer"):
        attach(case.pk, "a.pdf", [PDF], by=owner)


def test_a_removal_takes_the_bytes_and_leaves_the_row(case, owner, lead, folder, django_capture_on_commit_callbacks):
    made = attach(case.pk, "a.pdf", [PDF], by=owner)
    with pytest.raises(NotAllowed):
        remove(made.pk, by=owner, reason="Belongs to another customer.")
    with pytest.raises(CaseError, match="Say why"):
        remove(made.pk, by=lead, reason="no")
    with django_capture_on_commit_callbacks(execute=True):
        remove(made.pk, by=lead, reason="Belongs to another customer.")
    gone = remove(made.pk, by=lead, reason="A second click, another day.")
    assert (gone.removed_by, gone.removed_for, gone.sha256) == (lead, "Belongs to another customer.", made.sha256)
    assert kept(folder) == []
    assert CaseEvent.objects.filter(case=case, kind="file_removed").count() == 1
    with pytest.raises(attachments.LostFile, match="removed"):
        path_of(gone)


def test_a_file_that_was_changed_on_disk_is_not_given_out(case, owner, folder):
    made = attach(case.pk, "a.pdf", [PDF], by=owner)
    path_of(made).write_bytes(PDF + b"!")
    with pytest.raises(attachments.LostFile, match="changed"):
        path_of(made)


@pytest.mark.parametrize("stored", ["../../etc/passwd", "a" * 47, "A" * 48, ""])
def test_a_path_comes_only_from_names_of_ours(stored):
    with pytest.raises(attachments.LostFile):
        path_of(Attachment(stored=stored, sha256=""))


def test_the_sweep_takes_old_files_without_a_row_and_nothing_else(case, owner, folder):
    made = attach(case.pk, "a.pdf", [PDF], by=owner)
    old, young = folder / "ab" / ("ab" * 24), folder / "cd" / ("cd" * 24)
    for path in (old, young, folder / "ab" / "README"):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    for path in (old, path_of(made), folder / "ab" / "README"):
        os.utime(path, (time.time() - 7200, time.time() - 7200))
    assert sweep() == 1
    assert set(kept(folder)) == {path_of(made), young, folder / "ab" / "README"}


def test_a_commit_that_fails_leaves_a_file_for_the_sweep_only(case, owner, folder):
    with pytest.raises(RuntimeError), atomic():
        attach(case.pk, "a.pdf", [PDF], by=owner)
        raise RuntimeError
    assert not Attachment.objects.exists()
    assert sweep(older_than=-5) == 1
    assert kept(folder) == []
