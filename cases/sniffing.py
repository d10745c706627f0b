"""What a file really is. Its name is only a claim: the first bytes, and of an archive its parts, decide.

Archives are never unpacked. What they say of themselves is read with bounds (how many parts, how large, how much
smaller than what they claim to hold), so that a bomb costs nothing but its refusal.
"""

from __future__ import annotations

import codecs
import io
import re
import struct
import zipfile
from email import message_from_bytes, policy
from pathlib import PurePosixPath
from typing import IO

from cases.workflow import CaseError
from transactions import pan

KINDS = ("pdf", "png", "jpg", "txt", "csv", "docx", "xlsx", "eml")
TYPES = {
    "pdf": "application/pdf",
    "png": "image/png",
    "jpg": "image/jpeg",
    "txt": "text/plain; charset=utf-8",
    "csv": "text/csv; charset=utf-8",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "eml": "message/rfc822",
}
ALLOWED = "pdf, png, jpg, txt, csv, docx, xlsx or eml"

_SAME = {"jpeg": "jpg"}
_MAGIC = ((b"%PDF-", "pdf"), (b"\x89PNG\r\n\x1a\n", "png"), (b"\xff\xd8\xff", "jpg"), (b"PK\x03\x04", "zip"))
_PARTS = {"docx": "word/document.xml", "xlsx": "xl/workbook.xml"}
_ZIP64 = b"PK\x06\x07"
_CONTENT_TYPES = "[Content_Types].xml"
_HEAD, _CHUNK = 65_536, 1 << 20
MOST_PARTS, LARGEST_DIRECTORY = 5_000, 1 << 20
LARGEST_UNPACKED, LARGEST_RATIO = 250 << 20, 200
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f]")


class RefusedFile(CaseError):
    """The file is none of the kinds that a case takes, is not what its name says, or is not safe to keep."""


def kind_of(file: IO[bytes], name: str) -> str:
    """One of KINDS, by the file's content. Raises RefusedFile if that is none of them, or not what `name` says."""
    claimed = PurePosixPath(name).suffix.lower().lstrip(".")
    claimed = _SAME.get(claimed, claimed)
    if claimed not in KINDS:
        raise RefusedFile(f"A case takes {ALLOWED} files only.")
    found = _by_content(file, claimed)
    if found != claimed:
        raise RefusedFile(f"The name says {claimed}, the content does not. Nothing was kept.")
    return found


def _by_content(file: IO[bytes], claimed: str) -> str:
    file.seek(0)
    head = file.read(_HEAD)
    if not head:
        raise RefusedFile("The file is empty.")
    magic = next((kind for start, kind in _MAGIC if head.startswith(start)), "")
    if magic == "zip":
        return _office(file)
    if magic:
        return magic
    check_text(file)
    if claimed == "eml":
        return "eml" if _is_mail(head) else "txt"
    return claimed if claimed in ("txt", "csv") else ""


# --- Word and Excel ---------------------------------------------------------------------------------------------------


def _office(file: IO[bytes]) -> str:
    """docx or xlsx by the parts inside, or nothing; never with macros, passwords or bombs."""
    _check_directory(file)
    try:
        with zipfile.ZipFile(file) as archive:
            parts = archive.infolist()
            _check_parts(parts)
            names = {part.filename for part in parts}
            kinds = [kind for kind, part in _PARTS.items() if part in names and _CONTENT_TYPES in names]
    except (zipfile.BadZipFile, struct.error, UnicodeDecodeError, NotImplementedError, ValueError, EOFError):
        raise RefusedFile("The file is damaged: it cannot be read as a document.") from None
    return kinds[0] if len(kinds) == 1 else "zip"


def _check_directory(file: IO[bytes]) -> None:
    """The size of the archive's own list, before anything reads that list into memory."""
    size = file.seek(0, 2)
    file.seek(max(0, size - 65_557))
    tail = file.read()
    place = tail.rfind(b"PK\x05\x06")
    if place < 0 or len(tail) < place + 22:
        raise RefusedFile("The file is damaged: it cannot be read as a document.")
    parts, directory = struct.unpack("<HL", tail[place + 10 : place + 16])
    is_huge = tail[max(0, place - 20) :].startswith(_ZIP64)  # its list may be longer than the end of the file says
    if parts > MOST_PARTS or directory > LARGEST_DIRECTORY or is_huge:
        raise RefusedFile("The document has too many parts inside.")


def _check_parts(parts: list[zipfile.ZipInfo]) -> None:
    if any(part.flag_bits & 1 for part in parts):
        raise RefusedFile("The document is locked with a password.")
    if any(PurePosixPath(part.filename).name.lower() == "vbaproject.bin" for part in parts):
        raise RefusedFile("The document holds macros.")
    whole, packed = sum(part.file_size for part in parts), sum(part.compress_size for part in parts)
    if whole > LARGEST_UNPACKED or whole > LARGEST_RATIO * max(packed, 1024):
        raise RefusedFile("The document is far larger inside than it looks.")


# --- text -------------------------------------------------------------------------------------------------------------


def check_text(file: IO[bytes]) -> None:
    """Raise RefusedFile unless the whole file reads as text (UTF-8, UTF-16 or a western one-byte code)."""
    try:
        _read_through(file, _encoding(file))
    except UnicodeDecodeError:
        _read_through(file, "cp1252", errors="replace")


def _encoding(file: IO[bytes]) -> str:
    file.seek(0)
    mark = file.read(3)
    if mark[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return "utf-16"
    return "utf-8-sig"


def _read_through(file: IO[bytes], encoding: str, errors: str = "strict") -> None:
    decoder = codecs.getincrementaldecoder(encoding)(errors)
    file.seek(0)
    while chunk := file.read(_CHUNK):
        if _CONTROLS.search(decoder.decode(chunk)):
            raise RefusedFile(f"This is neither text nor one of {ALLOWED}.")
    decoder.decode(b"", final=True)


def refuse_card_numbers(file: IO[bytes]) -> None:
    """Raise RefusedFile if a line of a text holds something like a card number; tells which line, not what."""
    encoding = _encoding(file)
    file.seek(0)
    text = io.TextIOWrapper(file, encoding, errors="replace")
    try:
        for number, line in enumerate(text, start=1):
            if pan.in_free_text(line):
                raise RefusedFile(f"Line {number} holds something like a card number, which must not be stored.")
    finally:
        text.detach()  # the file is the caller's, to close


def _is_mail(head: bytes) -> bool:
    headers = message_from_bytes(head, policy=policy.compat32)
    return bool(headers["From"]) and any(headers[name] for name in ("Date", "Received", "To", "Subject"))
