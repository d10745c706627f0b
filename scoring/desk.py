"""The tuning pages: thresholds, rules, approvals and models. Every act is a button that calls a service.

A refusal is shown on the page it happened on, with the status that says why: 403 for who may not, 409 for what has
moved on, 422 for what cannot be.
"""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods

from scoring import governance, switches, whatif
from scoring.governance import GovernanceError
from scoring.models import ModelVersion, Proposal, Release, Rule, RuleVersion
from scoring.policy import DEFAULT, STEPS
from scoring.presentation import (
    FIGURES,
    NAMES,
    calibration_points,
    changes,
    effect_rows,
    figure,
    flat,
    list_does,
    model_figures,
    rule_row,
)
from scoring.releases import in_force
from transactions.codes import CHANNEL, EXPONENT
from transactions.models import Lane

HISTORY = 50
LONGEST_HOLD = 30 * 24 * 60  # minutes
STATUS = {
    governance.NotAllowed: 403,
    governance.SamePerson: 403,
    governance.AlreadyDecided: 409,
    governance.Stale: 409,
    governance.NoChange: 409,
}


def lane_of(request: HttpRequest) -> Lane:
    """The lane of the address (?lane=cards), else the first one."""
    name = request.GET.get("lane") or request.POST.get("lane")
    return get_object_or_404(Lane, name=name) if name else get_object_or_404(Lane.objects.order_by("id")[:1])


def page(
    request: HttpRequest, template: str, context: dict[str, Any], title: str, refusal: GovernanceError | None = None
) -> HttpResponse:
    """A tuning page; a refusal is told on it, with the status that says why."""
    status = STATUS.get(type(refusal), 422) if refusal else 200
    context |= {"refusal": refusal, "lanes": Lane.objects.order_by("id"), "may": _rights(request)}
    return admin.site.render(request, f"scoring/{template}.html", context, title=title, status=status)


def _rights(request: HttpRequest) -> dict[str, bool]:
    kinds = Proposal.Kind.values
    names = [f"{act}_{kind}" for act in ("propose", "approve") for kind in kinds] + ["pull_switch"]
    return {name: request.user.has_perm(f"scoring.{name}") for name in names}


def _proposed(request: HttpRequest, proposal: Proposal) -> HttpResponse:
    messages.success(request, f"Proposed as number {proposal.pk}. Another person has to approve it.")
    return redirect("admin:approval", proposal.pk)


# --- thresholds -------------------------------------------------------------------------------------------------------


@require_http_methods(["GET", "POST"])
def thresholds(request: HttpRequest) -> HttpResponse:
    """The thresholds in force with their effect, and a form that proposes others."""
    lane, refusal, wanted = lane_of(request), None, None
    if request.method == "POST":
        try:
            wanted = _wanted(request)
            reason, held = request.POST.get("reason", ""), _held(request)
            return _proposed(request, governance.propose_policy(lane, wanted, by=request.user, reason=reason, **held))
        except GovernanceError as error:
            refusal = error
    return page(request, "thresholds", _thresholds_context(lane, request, wanted), "Thresholds", refusal)


def _wanted(request: HttpRequest) -> dict[str, dict[str, int]]:
    """The thresholds of the form: those of the default, and of each channel that is ticked to have its own."""
    names = [DEFAULT, *(name for name in CHANNEL if request.POST.get(f"own-{name}"))]
    try:
        return {name: {step: int(request.POST[f"{step}-{name}"]) for step in STEPS} for name in names}
    except (KeyError, ValueError):
        raise governance.NotPossible("Every threshold must be a whole score from 1 to 1000.") from None


def _held(request: HttpRequest) -> dict[str, Any]:
    """How long payments are held, and what becomes of them then; what the form does not name stays as it is."""
    minutes, resolution = request.POST.get("hold_minutes", ""), request.POST.get("default_resolution", "")
    if minutes and not 1 <= number(minutes) <= LONGEST_HOLD:
        raise governance.NotPossible(f"Payments are held for 1 to {LONGEST_HOLD:,} minutes.")
    if resolution not in ("", "released", "blocked"):
        raise governance.NotPossible("A payment that nobody decides on is released or blocked.")
    return {"hold_minutes": number(minutes) or None, "default_resolution": resolution or None}


def _thresholds_context(lane: Lane, request: HttpRequest, wanted: dict[str, dict[str, int]] | None) -> dict[str, Any]:
    """`wanted`: what a refused form asked for; it stays in the form."""
    release = in_force(lane)
    if release is None:
        return {"lane": lane, "release": None}
    now = release.policy.thresholds
    try:
        found: dict[str, Any] | None = whatif.histogram(lane)
    except whatif.TooSlow:
        found = None
    pending = Proposal.objects.filter(lane=lane, kind=Proposal.Kind.POLICY, status=Proposal.Status.PENDING)
    context = _effect_context(found, now) if found else {"rows": [], "channels": [], "labelled": 0}
    return context | {
        "lane": lane,
        "release": release,
        "policy": release.policy,
        "segments": [each | {"title": NAMES[each["name"]]} for each in whatif.segments(wanted or now)],
        "found": found,
        "data": {"now": now, "histogram": found, "currency_exponent": EXPONENT.get(lane.base_currency, 2)},
        "pending": pending.select_related("proposed_by")[:5],
        "reason": request.POST.get("reason", ""),
        "hold_minutes": request.POST.get("hold_minutes") or release.policy.hold_minutes,
        "default_resolution": request.POST.get("default_resolution") or release.policy.default_resolution,
        "bin_text": "in steps of 20 points",
    }


def _effect_context(found: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """The effect table and the table by channel as they stand before anything is moved."""
    whole, parts = whatif.measure(found, now), whatif.by_channel(found, now)
    labelled = sum(bar[2] + bar[4] for floors in found["bars"].values() for bars in floors.values() for bar in bars)
    channels = [
        {
            "name": name,
            "title": NAMES.get(name, name or "Not sent"),
            "payments": part["payments"],
            "alerts": figure(part["alerts_a_day"], "rate"),
            "caught": figure(part["value_recall"], "share"),
        }
        for name, part in parts.items()
    ]
    effect = {"now": whole, "proposed": whole, "currency": found["currency"]}
    return {"rows": effect_rows(effect), "channels": channels, "labelled": labelled}


# --- rules ------------------------------------------------------------------------------------------------------------


@require_GET
def rules(request: HttpRequest) -> HttpResponse:
    """Every rule with its mode, what it does and how often it hit."""
    lane = lane_of(request)
    try:
        hits: dict[int, dict[str, int]] | None = whatif.rule_hits(lane)
    except whatif.TooSlow:
        hits = None
    standing, release = _standing(lane), in_force(lane)
    found = Rule.objects.filter(lane=lane).prefetch_related("versions__reason")
    rows = [rule_row(rule, standing, hits) | {"pulled": switches.is_pulled(release, rule)} for rule in found]
    context = {"lane": lane, "rows": rows, "counted": hits is not None, "pulled": switches.pulled(lane)}
    return page(request, "rules", context, "Rules")


def _standing(lane: Lane) -> dict[int, str]:
    release = in_force(lane)
    return {entry["version"]: entry["mode"] for entry in release.rules} if release else {}


@require_http_methods(["GET", "POST"])
def rule(request: HttpRequest, pk: int) -> HttpResponse:
    """One rule with its versions; a form that proposes a mode, with the text in force, an older one or a new one."""
    found, refusal = get_object_or_404(Rule.objects.select_related("lane"), pk=pk), None
    if request.method == "POST":
        try:
            if request.POST.get("switch"):
                return _switched(request, found.lane, found)
            return _proposed(request, _propose_rule(request, found))
        except GovernanceError as error:
            refusal = error
    return page(request, "rule", _rule_context(found, request), str(found), refusal)


def _propose_rule(request: HttpRequest, found: Rule) -> Proposal:
    version = found.versions.filter(pk=number(request.POST.get("version"))).first()
    text = request.POST.get("expression", "").strip()
    base = version or governance.standing_rule(found)[0] or found.versions.first()
    changed = {"expression": text} if text and base and text != base.expression else None
    mode, reason = request.POST.get("mode", ""), request.POST.get("reason", "")
    return governance.propose_rule(found, mode=mode, by=request.user, reason=reason, text=changed, version=version)


def number(text: str | None) -> int:
    """A whole number from an address or form; 0 for anything else."""
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 10 else 0


def _rule_context(found: Rule, request: HttpRequest) -> dict[str, Any]:
    try:
        hits: dict[int, dict[str, int]] | None = whatif.rule_hits(found.lane)
    except whatif.TooSlow:
        hits = None
    version, mode = governance.standing_rule(found)
    proposals = Proposal.objects.filter(rule_version__rule=found).select_related("proposed_by", "decided_by")
    shown = version or found.versions.first()
    return {
        "lane": found.lane,
        "rule": found,
        "row": rule_row(found, _standing(found.lane), hits),
        "switch": switch(found.lane, found),
        "version": shown,
        "mode": mode,
        "modes": RuleVersion.Mode.choices,
        "versions": [(each, (hits or {}).get(each.pk)) for each in found.versions.select_related("reason")],
        "proposals": proposals[:20],
        "expression": request.POST.get("expression") or (shown.expression if shown else ""),
        "reason": request.POST.get("reason", ""),
        "asked": request.POST.get("mode") or mode,
    }


def switch(lane: Lane, rule: Rule | None = None) -> dict[str, Any]:
    """A kill switch as its panel shows it."""
    return {
        "rule": rule,
        "pulled": switches.is_pulled(in_force(lane), rule),
        "acts": switches.acts(lane, rule)[:10],
    }


def _switched(request: HttpRequest, lane: Lane, rule: Rule | None = None) -> HttpResponse:
    act = {"pull": switches.pull, "restore": switches.restore}.get(request.POST.get("switch", ""))
    if act is None:
        raise governance.NotPossible("There is no such act.")
    release = act(lane, rule, by=request.user, reason=request.POST.get("reason", ""))
    messages.success(request, f"{release.reason}. Release {release.pk} judges the next payment.")
    return redirect(request.path + f"?lane={lane.name}")


# --- approvals --------------------------------------------------------------------------------------------------------


def pending_proposals(request: HttpRequest) -> QuerySet[Proposal]:
    """The proposals that wait, for the rail."""
    return Proposal.objects.filter(status=Proposal.Status.PENDING)


@require_GET
def approvals(request: HttpRequest) -> HttpResponse:
    """What waits for a second person, and what was decided."""
    lane = lane_of(request)
    proposals = Proposal.objects.filter(lane=lane).select_related(
        "proposed_by", "decided_by", "policy", "rule_version__rule", "model", "list", "release", "lane"
    )
    before = number(request.GET.get("before"))
    decided = proposals.exclude(status=Proposal.Status.PENDING)
    past = list((decided.filter(pk__lt=before) if before else decided)[: HISTORY + 1])
    context = {
        "lane": lane,
        "pending": [_shown(request, each) for each in proposals.filter(status=Proposal.Status.PENDING)[:HISTORY]],
        "history": [_shown(request, each) for each in past[:HISTORY]],
        "older": past[HISTORY - 1].pk if len(past) > HISTORY else None,
        "releases": Release.objects.filter(lane=lane).select_related("policy", "model")[:1],
        "pulled": switches.pulled(lane),
    }
    return page(request, "approvals", context, "Approvals")


@require_http_methods(["GET", "POST"])
def approval(request: HttpRequest, pk: int) -> HttpResponse:
    """One proposal in full; approve, reject, withdraw or propose the way back."""
    proposal, refusal = _proposal(pk), None
    if request.method == "POST":
        try:
            return _act(request, proposal)
        except GovernanceError as error:
            proposal, refusal = _proposal(pk), error
    context = {"lane": proposal.lane, "item": _shown(request, proposal), "note": request.POST.get("note", "")}
    return page(request, "approval", context, f"Proposal {proposal.pk}", refusal)


def _proposal(pk: int) -> Proposal:
    found = Proposal.objects.select_related(
        "proposed_by", "decided_by", "policy", "rule_version__rule__lane", "model", "list", "release", "lane", "reverts"
    )
    return get_object_or_404(found, pk=pk)


def _act(request: HttpRequest, proposal: Proposal) -> HttpResponse:
    act, note = request.POST.get("act"), request.POST.get("note", "")
    if act == "approve":
        release = governance.approve(proposal, by=request.user, note=note)
        messages.success(request, f"Approved. Release {release.pk} judges the next payment.")
    elif act == "reject":
        governance.reject(proposal, by=request.user, note=note)
        messages.info(request, f"Proposal {proposal.pk} is rejected. Nothing has changed.")
    elif act == "withdraw":
        governance.withdraw(proposal, by=request.user, note=note)
        messages.info(request, f"Proposal {proposal.pk} is withdrawn.")
    elif act == "revert":
        reason = note.strip() or f"Back to what was in force before proposal {proposal.pk}"
        return _proposed(request, governance.revert(proposal, by=request.user, reason=reason))
    else:
        raise governance.NotPossible("There is no such act.")
    return redirect(f"{reverse('admin:approvals')}?lane={proposal.lane.name}")


def _shown(request: HttpRequest, proposal: Proposal) -> dict[str, Any]:
    pending = proposal.status == Proposal.Status.PENDING
    return {
        "proposal": proposal,
        "changes": changes(proposal),
        "effect": effect_rows(proposal.effect) if proposal.kind == Proposal.Kind.POLICY else [],
        "adds": bool(proposal.after.get("add")),
        "touched_value": _touched_value(proposal.effect),
        "does": list_does(proposal.list) if proposal.list else "",
        "own": proposal.proposed_by_id == request.user.pk,
        "may_propose": request.user.has_perm(f"scoring.propose_{proposal.kind}"),
        "may_decide": request.user.has_perm(f"scoring.approve_{proposal.kind}"),
        "stale": pending and governance.is_stale(proposal),
        "revertible": proposal.status == Proposal.Status.APPROVED,
    }


def _touched_value(effect: dict[str, Any]) -> str:
    if "touched" not in effect:
        return ""
    currency = effect.get("currency", "EUR")
    return f"{figure(effect['touched']['value'], 'money', currency)} {currency}"


# --- models -----------------------------------------------------------------------------------------------------------


@require_http_methods(["GET", "POST"])
def models(request: HttpRequest) -> HttpResponse:
    """Every trained model with its stage and its figures, newest first; the model's kill switch."""
    lane, refusal = lane_of(request), None
    if request.method == "POST":
        try:
            return _switched(request, lane)
        except GovernanceError as error:
            refusal = error
    versions = [(each, model_figures(each.metrics)[:3]) for each in ModelVersion.objects.filter(lane=lane)[:HISTORY]]
    columns = [text for text, _ in FIGURES]
    context = {"lane": lane, "versions": versions, "columns": columns, "switch": switch(lane)}
    return page(request, "models", context, "Models", refusal)


@require_http_methods(["GET", "POST"])
def model(request: HttpRequest, pk: int) -> HttpResponse:
    """One model: figures, card, lineage; a form that proposes it as champion."""
    found, refusal = get_object_or_404(ModelVersion.objects.select_related("lane"), pk=pk), None
    if request.method == "POST":
        try:
            return _proposed(
                request, governance.propose_model(found, by=request.user, reason=request.POST.get("reason", ""))
            )
        except GovernanceError as error:
            refusal = error
    context = {
        "lane": found.lane,
        "model": found,
        "test": found.metrics.get("test") or {},
        "champion": found.metrics.get("champion") or {},
        "figures": model_figures(found.metrics),
        "points": calibration_points(found.metrics),
        "card": list(flat(found.card)),
        "releases": Release.objects.filter(model=found)[:20],
        "proposals": Proposal.objects.filter(model=found).select_related("proposed_by", "decided_by")[:20],
        "reason": request.POST.get("reason", ""),
    }
    return page(request, "model", context, f"Model {found.version}", refusal)
