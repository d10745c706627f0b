"""What a case keeps, as its page shows it, and the pages around it: mentions, snippets, late labels.

The acts on the record of one case are in `record_acts`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse, QueryDict
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from cases import approvals, attachments, late_labels, mentions, notes, snippets
from cases.cursors import number
from cases.history import NotAllowed
from cases.models import Attachment, Case, Mention, Note
from cases.notes import RefusedText
from cases.pieces import is_piece
from cases.querysets import for_member
from cases.workflow import CaseError


@dataclass(frozen=True)
class ShownNote:
    """A note with its place among its corrections, and where it was written if not in this case."""

    note: Note
    about: str
    corrected_by: int
    elsewhere: str


def case_context(
    request: HttpRequest, case: Case, *, form: QueryDict | None = None, refusal: CaseError | None = None
) -> dict[str, Any]:
    """The case page's notes, files and tags. Files and history come when their tabs are opened."""
    given = form if form is not None else QueryDict()
    shown = notes_of(case)
    return {
        "notes": shown,
        # What looks like a card number is not even sent back: the page keeps the draft by itself.
        "note_text": "" if isinstance(refusal, RefusedText) else given.get("text", ""),
        "note_about": given.get("about", ""),
        "abouts": list(notes.ABOUT.items()),
        "correcting": _correcting(shown, given.get("corrects") or request.GET.get("correct", "")),
        "files_tab": files_tab(case),
        "tags_text": given.get("tags", ""),
    }


def notes_of(case: Case) -> list[ShownNote]:
    """The case's notes and those of its entities, newest first, each with what became of it."""
    found = list(notes.of_case(case))
    later = {note.corrects_id: note.pk for note in found if note.corrects_id}
    return [
        ShownNote(
            note=note,
            about=notes.ABOUT.get(note.entity_kind, ""),
            corrected_by=later.get(note.pk, 0),
            elsewhere=f"C-{note.case_id}" if note.case_id and note.case_id != case.pk else "",
        )
        for note in found
    ]


def files_tab(case: Case) -> dict[str, Any]:
    """How many files the case has; the list comes when its tab is opened."""
    counted = getattr(case, "file_count", None)
    return {"count": case.attachments.filter(removed_at=None).count() if counted is None else counted}


def files_context(request: HttpRequest, case: Case) -> dict[str, Any]:
    """The case's files and what this person may do with them."""
    files = attachments.of(case)
    live = sum(each.removed_at is None for each in files)
    member = getattr(case, "is_member", False)
    return {
        "case": case,
        "files": files,
        "most": attachments.MOST_FILES,
        "largest": attachments.LARGEST,
        "may_add": member and request.user.has_perm("cases.work_case") and live < attachments.MOST_FILES,
        "may_remove": member and request.user.has_perm("cases.lead_queue"),
    }


def _correcting(shown: list[ShownNote], named: str) -> Note | None:
    """The note that is being corrected, if it can be."""
    return next((each.note for each in shown if str(each.note.pk) == named and not each.corrected_by), None)


# --- mentions ---------------------------------------------------------------------------------------------------------


def unseen_mentions(request: HttpRequest) -> QuerySet[Mention]:
    """What the person has not seen, for the bell."""
    return mentions.unseen(request.user)


@require_http_methods(["GET", "POST"])
def mention_list(request: HttpRequest) -> HttpResponse:
    """Where the person was named, newest first; POST marks all as seen."""
    if request.method == "POST":
        mentions.mark_seen(request.user)
        return redirect("admin:mentions")
    before = number(request.GET.get("before"))
    found, more = mentions.of(request.user, before)
    context = {"mentions": found, "more": more, "is_first": not before}
    return admin.site.render(request, "cases/mentions.html", context, title="Mentions")


@require_POST
def mention_open(request: HttpRequest, mention_id: int) -> HttpResponse:
    """Go to the note in which the person was named; from now on it is seen."""
    mention: Any = get_object_or_404(Mention.objects.select_related("note"), pk=mention_id, user=request.user)
    mentions.mark_seen(request.user, [mention.pk])
    note = mention.note
    if note.case_id:
        return redirect(reverse("admin:case", args=[note.case_id]) + f"#note-{note.pk}")
    return redirect(reverse("admin:entity", args=[note.entity_kind, str(note.entity_key)]) + "#notes")


@require_GET
def people(request: HttpRequest, case_id: int) -> HttpResponse:
    """Whom a note of this case can name, by the beginning of a name; for the writer's list."""
    case = for_member(request.user).select_related("queue").filter(pk=case_id).first()
    if case is None:
        raise Http404
    found = mentions.people_of(case, request.GET.get("q", "")[:40])
    return JsonResponse({"people": [{"name": each.get_full_name(), "user": each.get_username()} for each in found]})


# --- snippets ---------------------------------------------------------------------------------------------------------


@require_http_methods(["GET", "POST"])
def snippet_list(request: HttpRequest) -> HttpResponse:
    """The person's snippets and the team's; a note's writer asks for them as JSON."""
    if request.method == "GET" and is_piece(request):
        offered = [{"title": each.title, "text": each.text} for each in snippets.offered(request.user)]
        return JsonResponse({"snippets": offered})
    refusal = _keep_snippet(request) if request.method == "POST" else None
    if request.method == "POST" and refusal is None:
        return redirect("admin:snippets")
    status = 403 if isinstance(refusal, NotAllowed) else 422 if refusal else 200
    context = {
        "snippets": [(each, snippets.may_change(each, request.user)) for each in snippets.offered(request.user)],
        "refusal": refusal,
        "given": request.POST,
        "may_team": request.user.has_perm("cases.lead_queue"),
    }
    return admin.site.render(request, "cases/snippets.html", context, title="Snippets", status=status)


def _keep_snippet(request: HttpRequest) -> CaseError | None:
    form = request.POST
    named = number(form.get("id")) or None
    try:
        if form.get("act") == "remove" and named:
            snippets.remove(named, by=request.user)
        else:
            team = form.get("whose") == "team"
            snippets.keep(form.get("title", ""), form.get("text", ""), by=request.user, team=team, snippet_id=named)
    except CaseError as error:
        return error
    return None


# --- late labels ------------------------------------------------------------------------------------------------------


def late_cases(request: HttpRequest) -> QuerySet[Case]:
    """The cases that a later label contradicts, for the rail."""
    return for_member(request.user).filter(contradicted_at__isnull=False, status=Case.Status.CLOSED)


@require_http_methods(["GET", "POST"])
def late_list(request: HttpRequest) -> HttpResponse:
    """Closed cases that a later label contradicts; a lead opens each again or leaves it closed."""
    refusal: CaseError | None = None
    if request.method == "POST":
        try:
            return _deal_with(request)
        except CaseError as error:
            refusal = error
    waiting = late_labels.waiting(request.user)
    told, asked = late_labels.labels_of(waiting), approvals.asked_of(waiting)
    context = {
        "rows": [(case, told.get(case.pk, []), asked.get(case.pk)) for case in waiting],
        "refusal": refusal,
        "given": request.POST,
        "may_act": request.user.has_perm("cases.lead_queue"),
    }
    status = 403 if isinstance(refusal, NotAllowed) else 422 if refusal else 200
    return admin.site.render(request, "cases/late_labels.html", context, title="Late labels", status=status)


def _deal_with(request: HttpRequest) -> HttpResponse:
    form = request.POST
    case_id = number(form.get("case"))
    if form.get("act") == "reopen":
        case = late_labels.reopen(case_id, by=request.user, reason=form.get("reason", ""))
        if case.status == Case.Status.CLOSED:
            messages.info(request, f"You closed {case.number} yourself, so a second person has to agree.")
        else:
            messages.success(request, f"{case.number} is open again, in your hands.")
        return redirect("admin:case", case.pk)
    case = late_labels.leave_closed(case_id, by=request.user, reason=form.get("reason", ""))
    messages.success(request, f"{case.number} stays closed.")
    return redirect("admin:late_labels")


def named_file(case: Case, attachment_id: int) -> Attachment:
    """A file of this very case; of another it does not exist."""
    return get_object_or_404(case.attachments.select_related("case"), pk=attachment_id)
