"""Pieces of pages: what a script fetches comes bare, and without scripts the same address is a page of its own."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from cases import sightings
from cases.models import Case


def is_piece(request: HttpRequest) -> bool:
    """Whether one of the desk's scripts asks for a piece of a page."""
    return request.headers.get("X-Requested-With") == "desk"


def of_case(
    request: HttpRequest, case: Case, template: str, context: dict[str, Any], title: str, *, whole: str = ""
) -> HttpResponse:
    """A piece of a case's page; as a page it stands in the frame that leads back (`whole`: with what is around it)."""
    sightings.looked(request, case)
    context = {"case": case, **context}
    if is_piece(request):
        return render(request, template, context)
    told = context | {"piece": whole or template}
    return admin.site.render(request, "cases/case/whole.html", told, title=f"{case.number}, {title}")


def of_queue(
    request: HttpRequest, template: str, context: dict[str, Any], title: str, *, status: int = 200
) -> HttpResponse:
    """What the queue shows in its dialog."""
    if is_piece(request):
        return render(request, template, context, status=status)
    told = context | {"part": template}
    return admin.site.render(request, "cases/queue/dialog_page.html", told, title=title, status=status)
