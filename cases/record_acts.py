"""The acts on the record of one case: notes, files, tags, the report pack, the history and its export.

Whoever may not read the case finds nothing here; who may read it and not act is refused, also by a direct POST. What
leaves the desk (a file, a pack, an export) leaves a sighting.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.http import FileResponse, Http404, HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from cases import attachments, audit, notes, packs, pieces, sniffing, tags
from cases.case_desk import case_page, readable
from cases.cursors import number
from cases.history import NoSuchCase, NotAllowed, StaleCase
from cases.models import Case
from cases.record_desk import files_context, named_file
from cases.sightings import saw
from cases.workflow import CaseError


def _refused(request: HttpRequest, case_id: int, error: CaseError) -> HttpResponse:
    """The case page again with a sentence, and what the person wrote."""
    status = 403 if isinstance(error, NotAllowed) else 404 if isinstance(error, NoSuchCase) else 422
    status = 409 if isinstance(error, StaleCase) else status
    return case_page(request, readable(request, case_id), form=request.POST, refusal=error, status=status)


@require_POST
def note(request: HttpRequest, case_id: int) -> HttpResponse:
    """Add a note, or the correction of one."""
    readable(request, case_id)
    form = request.POST
    try:
        made = notes.add_note(
            case_id,
            form.get("text", ""),
            by=request.user,
            corrects=number(form.get("corrects")) or None,
            about=form.get("about", ""),
        )
    except CaseError as error:
        return _refused(request, case_id, error)
    return redirect(reverse("admin:case", args=[case_id]) + f"#note-{made.pk}")


@require_POST
def change_tags(request: HttpRequest, case_id: int) -> HttpResponse:
    """Put tags on (`tags`, as typed) and take one off (`remove`)."""
    readable(request, case_id)
    form = request.POST
    try:
        tags.change_tags(case_id, by=request.user, add=[form.get("tags", "")], remove=[form.get("remove", "")])
    except CaseError as error:
        return _refused(request, case_id, error)
    return redirect("admin:case", case_id)


# --- files ------------------------------------------------------------------------------------------------------------


@require_http_methods(["GET", "POST"])
def files(request: HttpRequest, case_id: int) -> HttpResponse:
    """The case's files, as a piece of its page or a page of their own; POST attaches those of the form."""
    case = readable(request, case_id)
    if request.method == "POST":
        return _attach(request, case_id)
    return pieces.of_case(request, case, "cases/case/files.html", files_context(request, case), "files")


def _attach(request: HttpRequest, case_id: int) -> HttpResponse:
    """Each file for itself: the first that is refused says why, those before it are kept."""
    chosen = request.FILES.getlist("file")  # reads the form, and only then it is known what was dropped
    try:
        if dropped := getattr(request, "dropped_files", []):
            raise sniffing.RefusedFile(f"{attachments.safe_name(dropped[0])} is larger than 25 MB, or one of too many.")
        if not chosen:
            raise sniffing.RefusedFile("Choose a file first.")
        for each in chosen:
            attachments.attach(case_id, each.name or "", each.chunks(), by=request.user)
    except CaseError as error:
        return _refused(request, case_id, error)
    return redirect(reverse("admin:case", args=[case_id]) + "#files")


@require_GET
def download(request: HttpRequest, case_id: int, attachment_id: int) -> HttpResponseBase:
    """A file of the case, to be saved and never to be shown: no browser may guess what it is."""
    case = readable(request, case_id)
    each = named_file(case, attachment_id)
    try:
        path = attachments.path_of(each)
    except attachments.LostFile as error:
        return case_page(request, case, refusal=error, status=410)
    saw(request, "exported", case=case, what="file", file=each.pk, sha256=each.sha256)
    response = FileResponse(
        path.open("rb"), as_attachment=True, filename=each.name, content_type=sniffing.TYPES[each.kind]
    )
    return _sealed(response)


@require_POST
def remove_file(request: HttpRequest, case_id: int, attachment_id: int) -> HttpResponse:
    """A lead takes a file away; its row stays with the reason."""
    each = named_file(readable(request, case_id), attachment_id)
    try:
        attachments.remove(each.pk, by=request.user, reason=request.POST.get("reason", ""))
    except CaseError as error:
        return _refused(request, case_id, error)
    messages.success(request, f"{each.name} is removed; its row stays.")
    return redirect(reverse("admin:case", args=[case_id]) + "#files")


# --- what leaves the desk ---------------------------------------------------------------------------------------------


@require_POST
def pack(request: HttpRequest, case_id: int, form: str) -> HttpResponseBase:
    """The report of the case: `pdf`, or `zip` with the files."""
    case = readable(request, case_id)
    if form not in PACKS:
        raise Http404
    try:
        return PACKS[form](request, case)
    except attachments.LostFile as error:
        return case_page(request, case, refusal=error, status=409)


def _pdf(request: HttpRequest, case: Case) -> HttpResponseBase:
    content = packs.make_pdf(case, request.user)
    saw(request, "exported", case=case, what="report pdf", sha256=hashlib.sha256(content).hexdigest())
    response = HttpResponse(content, content_type="application/pdf")
    response.headers["Content-Disposition"] = f'attachment; filename="{case.number}.pdf"'
    return _sealed(response)


def _zip(request: HttpRequest, case: Case) -> HttpResponseBase:
    file, digest = packs.make_zip(case, request.user)
    saw(request, "exported", case=case, what="report zip", sha256=digest)
    response = FileResponse(file, as_attachment=True, filename=f"{case.number}.zip", content_type="application/zip")
    return _sealed(response)


PACKS: dict[str, Callable[[HttpRequest, Case], HttpResponseBase]] = {"pdf": _pdf, "zip": _zip}


@require_GET
def history(request: HttpRequest, case_id: int) -> HttpResponse:
    """A page of the case's history: a piece of the case page, or a page of its own."""
    case = readable(request, case_id)
    lines, more = audit.history(case, request.user, before=request.GET.get("before", ""))
    context = {"lines": lines, "more": more, "all_looks": audit.sees_all_looks(request.user)}
    return pieces.of_case(
        request, case, "cases/case/history_lines.html", context, "history", whole="cases/case/history_whole.html"
    )


@require_POST
def export_history(request: HttpRequest, case_id: int, form: str) -> HttpResponseBase:
    """The whole history as the person may see it, as `csv` or `json`; the export is a line of it."""
    case = readable(request, case_id)
    if form not in ("csv", "json"):
        raise Http404
    saw(request, "exported", case=case, what=f"history {form}")
    lines = audit.every_line(case, request.user)
    content: Any = audit.as_csv(lines) if form == "csv" else audit.as_json(lines, case)
    kind = "text/csv; charset=utf-8" if form == "csv" else "application/json"
    response = StreamingHttpResponse(content, content_type=kind)
    response.headers["Content-Disposition"] = f'attachment; filename="{case.number}-history.{form}"'
    return _sealed(response)


def _sealed(response: HttpResponseBase) -> HttpResponseBase:
    """For whoever asked, this once: not kept, not guessed at, not run."""
    response.headers["Cache-Control"] = "private, no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Content-Security-Policy"] = "default-src 'none'; sandbox"
    return response
