"""Files of a case: kept outside the web root under random names, found by their row alone, and never in two minds.

The bytes are written and synced first, the row is committed after; whatever stops in between leaves a file without a
row, which the sweep removes, and never a row without its file. A removal leaves the row and takes the bytes.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import subprocess
import time
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db.models import Count, Subquery
from django.db.models.functions import Coalesce
from django.db.transaction import atomic, on_commit
from django.utils import timezone

from cases.history import NoSuchCase, admit, locked, write
from cases.models import Attachment, Case
from cases.notes import refuse_card_numbers
from cases.sniffing import RefusedFile, kind_of
from cases.sniffing import refuse_card_numbers as refuse_cards_in_text
from cases.workflow import SHORTEST_RATIONALE, CaseError
from transactions import clock

LARGEST = 25 << 20
MOST_FILES = 20
ORPHAN_AGE = 3600  # seconds after which a file without a row is nobody's upload any more
SCAN_SECONDS = 120
_STORED = re.compile(r"[0-9a-f]{48}")
_UNSAFE = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|‎‏‪-‮⁦-⁩]')


class LostFile(CaseError):
    """The file of a row is not there, or is not what was stored."""


@dataclass(frozen=True)
class Stored:
    """Bytes on disk that have no row yet."""

    stored: str
    size: int
    sha256: str
    kind: str
    scanned: str


def attach(case_id: int, name: str, chunks: Iterable[bytes], *, by: Any) -> Attachment:
    """Keep a file with a case. The same content again is the same attachment.

    Raises RefusedFile (kind, size, content, virus scan, too many), NotAllowed, NoSuchCase.
    """
    name = safe_name(name)
    refuse_card_numbers(name)
    _check_room(case_id, by)
    kept = _store(name, chunks)
    try:
        attachment = _record(case_id, name, kept, by)
    except BaseException:  # the row is not there, so the file must go, whatever it was
        _discard(kept.stored)
        raise
    if attachment.stored != kept.stored:
        _discard(kept.stored)
    return attachment


@atomic
def remove(attachment_id: int, *, by: Any, reason: str) -> Attachment:
    """Take a file's bytes away; its row stays and says who did it and why. For those who lead the queue."""
    found = Attachment.objects.filter(pk=attachment_id).values_list("case_id", flat=True).first()
    if found is None:
        raise NoSuchCase
    case = locked(found)
    admit(case, by, "lead_queue")
    attachment: Any = Attachment.objects.select_for_update().get(pk=attachment_id)
    if attachment.removed_at is not None:
        return attachment
    reason = " ".join(reason.split())
    if not SHORTEST_RATIONALE <= len(reason) <= 200:
        raise CaseError(f"Say why the file goes, in {SHORTEST_RATIONALE} to 200 characters.")
    refuse_card_numbers(reason)
    attachment.removed_at, attachment.removed_by, attachment.removed_for = timezone.now(), by, reason
    attachment.save()
    write(case, "file_removed", by=by, note=reason, data=_told(attachment))
    case.save()
    on_commit(partial(_discard, attachment.stored), robust=True)
    return attachment


def of(case: Case) -> list[Attachment]:
    """The case's files, removed ones too, oldest first; a case has few."""
    return list(case.attachments.select_related("author", "removed_by")[: 10 * MOST_FILES])


def file_counts(case: Any) -> Any:
    """How many files a case has that are not removed, as an expression; `case` is its key or an OuterRef."""
    live = Attachment.objects.filter(case=case, removed_at=None).order_by()
    return Coalesce(Subquery(live.values("case").annotate(n=Count("pk")).values("n")), 0)


def path_of(attachment: Attachment) -> Path:
    """Where the bytes lie. Raises LostFile if they are gone; the name comes from the row, checked, never from outside.

    Looks at the whole file again: what is given out is what was stored.
    """
    path = _place(attachment.stored)
    if attachment.removed_at is not None:
        raise LostFile("That file was removed.")
    if not path.is_file() or sha256_of(path) != attachment.sha256:
        raise LostFile("The stored file is missing or was changed on disk. Tell your administrator.")
    return path


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sweep(older_than: float = ORPHAN_AGE) -> int:
    """Remove files that no row names: uploads that were cut off, bytes of removed rows; how many."""
    before, removed = time.time() - older_than, 0
    for batch in _batches(_old_files(before), 500):
        names = [path.name for path in batch]
        live = Attachment.objects.filter(stored__in=names, removed_at__isnull=True)
        kept = set(live.values_list("stored", flat=True))
        for path in batch:
            if path.name not in kept:
                path.unlink(missing_ok=True)
                removed += 1
    return removed


def safe_name(name: str) -> str:
    """A name as people gave it, without folders, controls and signs that turn text around; its ending is kept."""
    name = unicodedata.normalize("NFC", name).replace("\\", "/").rsplit("/", 1)[-1]
    name = _UNSAFE.sub("_", name).strip(" .")
    stem, dot, ending = name.rpartition(".")
    return f"{stem[: 190 - len(ending)]}{dot}{ending}"[:200] if stem else (name[:200] or "file")


def _check_room(case_id: int, by: Any) -> None:
    """Refuse early, before the bytes are written; `_record` asks again under the lock."""
    case = Case.objects.select_related("queue").filter(pk=case_id).first()
    if case is None:
        raise NoSuchCase
    admit(case, by)
    _check_count(case)


def _check_count(case: Case) -> None:
    if case.attachments.filter(removed_at__isnull=True).count() >= MOST_FILES:
        raise RefusedFile(f"A case has at most {MOST_FILES} files.")


def _store(name: str, chunks: Iterable[bytes]) -> Stored:
    """Write the bytes under a random name, look at what they are, have them scanned. Refused ones are gone again."""
    stored = secrets.token_hex(24)
    path = _place(stored)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        size, digest = _write_out(path, chunks)
        with path.open("rb") as file:
            kind = kind_of(file, name)
            if kind in ("txt", "csv"):
                refuse_cards_in_text(file)
        return Stored(stored, size, digest, kind, scan(path))
    except BaseException:  # a refusal, a full disk, a cut line: no half file stays
        path.unlink(missing_ok=True)
        raise


def _write_out(path: Path, chunks: Iterable[bytes]) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        for chunk in chunks:
            size += len(chunk)
            if size > LARGEST:
                raise RefusedFile(f"A file has at most {LARGEST >> 20} MB.")
            digest.update(chunk)
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    _sync_folder(path.parent)
    return size, digest.hexdigest()


def _sync_folder(folder: Path) -> None:
    """A new file outlives a power cut only once its folder is on disk too."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@atomic
def _record(case_id: int, name: str, kept: Stored, by: Any) -> Attachment:
    case = locked(case_id)
    admit(case, by)
    twin = case.attachments.filter(sha256=kept.sha256, removed_at__isnull=True).first()
    if twin:
        return twin
    _check_count(case)
    attachment = Attachment.objects.create(
        case=case,
        name=name,
        kind=kept.kind,
        size=kept.size,
        sha256=kept.sha256,
        stored=kept.stored,
        scanned=kept.scanned,
        at=clock.now(),
        author=by,
    )
    write(case, "file_added", by=by, data=_told(attachment))
    case.save()
    return attachment


def scan(path: Path) -> str:
    """Have a file scanned by the configured command; what it said, or "" without one. Raises RefusedFile.

    The command gets the path as its last argument; it answers 0 (clean), 1 (found something), anything else: it could
    not say, and then the file is not taken.
    """
    command = settings.ATTACHMENT_SCAN
    if not command:
        return ""
    try:
        ended = subprocess.run([*command, str(path)], capture_output=True, timeout=SCAN_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        raise RefusedFile("The virus scan does not answer, so the file was not taken. Try again later.") from None
    if ended.returncode == 1:
        raise RefusedFile("The virus scan found something in this file. It was not kept.")
    if ended.returncode:
        raise RefusedFile("The virus scan failed, so the file was not taken. Try again later.")
    return f"clean ({Path(command[0]).name})"[:40]


def _told(attachment: Attachment) -> dict[str, Any]:
    return {
        "file": attachment.pk,
        "name": attachment.name,
        "sha256": attachment.sha256,
        "size": attachment.size,
        "scanned": attachment.scanned,
    }


def _place(stored: str) -> Path:
    if not _STORED.fullmatch(stored):
        raise LostFile("The stored name is none of ours.")
    return settings.ATTACHMENT_DIR / stored[:2] / stored


def _discard(stored: str) -> None:
    _place(stored).unlink(missing_ok=True)


def _old_files(before: float) -> Iterator[Path]:
    """Files of ours that were last written before that moment; anything else in the folder is left alone."""
    for path in settings.ATTACHMENT_DIR.glob("[0-9a-f][0-9a-f]/*"):
        try:
            if _STORED.fullmatch(path.name) and path.stat().st_mtime < before:
                yield path
        except FileNotFoundError:
            continue  # somebody else's sweep, or a refusal, was quicker


def _batches(paths: Iterator[Path], size: int) -> Iterator[list[Path]]:
    batch: list[Path] = []
    for path in paths:
        batch.append(path)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
