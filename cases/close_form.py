"""The close dialog: its choices, what was chosen so far, and what would follow, said before it is submitted."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django.http import HttpRequest, QueryDict
from django.utils import timezone

from cases import checklists, dossier, factsheet, verdicts, world
from cases.closing import IncompleteClose, reasons_to_close
from cases.models import Case
from cases.notes import RefusedText
from cases.workflow import GENUINE, CaseError, Disposition
from transactions.codes import FRAUD_TYPE

FRAUD_WORDS = {"lost_stolen": "Lost or stolen", "synthetic_id": "Synthetic identity"}
USUAL_DAYS = 30
KINDS = {
    "watch": "Puts {} on watch list {} until {}.",
    "else": "Proposes {} for {} list {} until {}; another approves.",
}


def close_form(
    request: HttpRequest,
    case: Case,
    alerts: list[dossier.Flagged],
    form: QueryDict | None,
    refusal: CaseError | None,
    others: Sequence[dossier.Sum] = (),
    chosen: dossier.Flagged | None = None,
    checks: Sequence[checklists.Step] = (),
) -> dict[str, Any]:
    """The close dialog: its choices, what was chosen so far, and what follows. `others`: alerts not on the page;
    `chosen`: the alert whose payment can go on lists."""
    given = form if form is not None else QueryDict()
    wanted = given.get("disposition") or request.GET.get("close", "")
    disposition = wanted if wanted in Disposition else Disposition.CONFIRMED_FRAUD
    exceptions = {each.row.pk: each.row.verdict for each in alerts if each.row.verdict} | exceptions_of(given)
    lists = list_choices(case, chosen, given)
    return {
        "open": "disposition" in given or bool(request.GET.get("close")),
        "dispositions": Disposition.choices,
        "disposition": disposition,
        "fraud_types": fraud_types(),
        "fraud_type": given.get("fraud_type", ""),
        "reasons": reasons_to_close(),
        "reason": given.get("close_reason", ""),
        "rationale": given.get("rationale", "") if not isinstance(refusal, RefusedText) else "",
        "errors": refusal.errors if isinstance(refusal, IncompleteClose) else {},
        "exceptions": [(each, exceptions.get(each.alert.pk, "")) for each in alerts],
        "beyond": sum(part.n for part in others),
        "held": [each for each in alerts if each.held],
        "held_beyond": sum(part.n for part in others if part.held),
        "lists": lists,
        "list_days": world.DAYS,
        "usual_days": USUAL_DAYS,
        "effects": dossier.consequences(alerts, disposition, exceptions, others)
        + _listed(lists)
        + _second_person(case, alerts, disposition, exceptions, wished="second" in given),
        "second": "second" in given,
        "script": dossier.for_script(alerts, others) | _for_script(case, alerts, checks),
    }


def check_groups(checks: Sequence[checklists.Step]) -> list[dict[str, Any]]:
    """The checklist by fraud type; those begun are open."""
    groups: dict[str, list[checklists.Step]] = {}
    for step in checks:
        groups.setdefault(step.item.fraud_type, []).append(step)
    names = dict(fraud_types()) | {"": "Every case"}
    return [
        {
            "name": names.get(sort, sort),
            "steps": steps,
            "done": sum(not step.is_open for step in steps),
            "open": sort == "" or any(not step.is_open for step in steps),
        }
        for sort, steps in groups.items()
    ]


def fraud_types() -> list[tuple[str, str]]:
    """The fraud types with their words."""
    return [(value, FRAUD_WORDS.get(value) or factsheet.spoken(value)) for value in FRAUD_TYPE]


def exceptions_of(form: QueryDict) -> dict[int, str]:
    """Payments set otherwise than the case: fields named verdict-<alert id>; "" is as the case."""
    return {int(name[8:]): value for name, value in form.items() if re.fullmatch(r"verdict-\d{1,18}", name)}


def listings_of(form: QueryDict) -> list[world.Listing]:
    """What shall go on lists: fields named list-<subject>-<alert id> with the list, days-<same> with the days."""
    found = []
    for name, value in form.items():
        match = re.fullmatch(r"list-([a-z]+)-(\d{1,18})", name)
        days = form.get(f"days-{match[1]}-{match[2]}", "") if match else ""
        if match and re.fullmatch(r"\d{1,9}", value):
            ends = int(days) if re.fullmatch(r"\d{1,3}", days) else USUAL_DAYS
            found.append(world.Listing(int(value), int(match[2]), ends))
    return found


def list_choices(case: Case, chosen: dossier.Flagged | None, given: QueryDict) -> list[dict[str, Any]]:
    """What of the alert at hand could go on which list, with what was chosen so far."""
    shown = world.choices(case, [chosen.alert]) if chosen else []
    return [
        {
            "choice": each,
            "name": f"{each.subject}-{each.alert_id}",
            "list": given.get(f"list-{each.subject}-{each.alert_id}", ""),
            "days": given.get(f"days-{each.subject}-{each.alert_id}", ""),
        }
        for each in shown
    ]


def _listed(lists: Sequence[dict[str, Any]]) -> list[dict[str, str]]:
    lines = []
    for each in lists:
        held = next((row for row in each["choice"].lists if str(row["id"]) == each["list"]), None)
        if held is not None:
            thing = f"{each['choice'].name.lower()} {each['choice'].shown}"
            ends = timezone.localtime(timezone.now() + timedelta(days=int(each["days"] or USUAL_DAYS)))
            kind = [] if held["kind"] == "watch" else [held["kind"]]
            words = KINDS["watch" if held["kind"] == "watch" else "else"]
            lines.append({"icon": "list", "text": words.format(thing, *kind, held["name"], f"{ends:%d %b %Y}")})
    return lines


def _second_person(
    case: Case, alerts: Sequence[dossier.Flagged], disposition: str, exceptions: dict[int, str], *, wished: bool
) -> list[dict[str, str]]:
    """That a second person has to agree first, as far as the page can tell; the service decides."""
    said = [exceptions.get(each.alert.pk) or disposition for each in alerts]
    overrules = any(
        verdict in GENUINE and verdicts.was_blocked(each.alert) for each, verdict in zip(alerts, said, strict=True)
    )
    why = [*(["the amount reaches the queue's limit"] if _is_much(case) else [])]
    why += ["it overrules a rule or list that blocks"] if overrules else []
    why += ["you ask for one"] if wished else []
    return [{"icon": "shield-check", "text": f"Waits for a second person: {' and '.join(why)}."}] if why else []


def _is_much(case: Case) -> bool:
    limit = case.queue.four_eyes_from
    return limit is not None and case.amount_base >= limit


def _for_script(case: Case, alerts: Sequence[dossier.Flagged], checks: Sequence[checklists.Step]) -> dict[str, Any]:
    blocked = [each.alert.pk for each in alerts if verdicts.was_blocked(each.alert)]
    steps = [
        {"id": step.item.pk, "type": step.item.fraud_type, "text": step.item.text}
        for step in checks
        if step.item.is_required and step.is_open
    ]
    return {"much": _is_much(case), "blocked": blocked, "genuine": sorted(GENUINE), "steps": steps}
