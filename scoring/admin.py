"""Tuning in the desk: its own pages, and read-only lists of versions, releases and decisions behind them."""

from __future__ import annotations

from typing import Any

from django.contrib import admin

from scoring import desk, list_desk
from scoring.models import (
    Decision,
    Epoch,
    List,
    ListEntry,
    ModelVersion,
    PolicyVersion,
    Proposal,
    ReasonCode,
    Release,
    Rescreening,
    Rule,
    RuleVersion,
    SwitchAct,
)
from scoring.rescreen_admin import JudgeAgain, RescreeningAdmin
from transactions.browsing import FactAdmin


@admin.register(Decision)
class DecisionAdmin(JudgeAgain):
    list_display = ["id", "transaction_id", "screening", "decided_at", "outcome", "score", "release_id", "latency"]
    fields = [
        "id", "transaction_id", "seq", "decided_at", "latency", "release_id", "probability", "margin", "lane",
        "screening", "outcome", "score", "band", "degraded", "kernel_version",
    ]  # fmt: skip
    readonly_fields = ["transaction_id", "release_id"]
    search_fields = ["=transaction_id"]
    search_help_text = "The payment's id"
    customer = "transaction__customer"


@admin.register(Release)
class ReleaseAdmin(FactAdmin):
    list_display = ["id", "lane", "model", "policy", "activated_by", "activated_at", "reason"]
    list_select_related = ["lane", "model", "policy"]


@admin.register(PolicyVersion)
class PolicyVersionAdmin(FactAdmin):
    list_display = ["number", "lane", "thresholds", "created_by", "created_at"]
    list_select_related = ["lane"]


@admin.register(RuleVersion)
class RuleVersionAdmin(FactAdmin):
    list_display = ["rule", "number", "expression", "outcome", "created_by", "created_at"]
    list_select_related = ["rule"]


@admin.register(ModelVersion)
class ModelVersionAdmin(FactAdmin):
    list_display = ["version", "lane", "stage", "kernel_version", "created_by", "created_at"]
    list_select_related = ["lane"]


@admin.register(Proposal)
class ProposalAdmin(FactAdmin):
    list_display = ["id", "kind", "status", "proposed_by", "proposed_at", "decided_by", "decided_at", "reason"]
    list_select_related = ["proposed_by", "decided_by"]


@admin.register(ReasonCode)
class ReasonCodeAdmin(FactAdmin):
    list_display = ["code", "title", "source", "description"]
    search_fields = ["code", "title"]


@admin.register(Epoch)
class EpochAdmin(FactAdmin):
    list_display = ["number", "lane", "status", "payments", "labels", "built_at", "switched_at"]
    list_select_related = ["lane"]


@admin.register(Rule)
class RuleAdmin(FactAdmin):
    list_display = ["code", "name", "lane", "owner"]
    list_select_related = ["lane"]


@admin.register(List)
class ListAdmin(FactAdmin):
    list_display = ["name", "lane", "kind", "subject", "outcome", "skips_scoring", "created_by", "created_at"]
    list_select_related = ["lane"]


@admin.register(ListEntry)
class ListEntryAdmin(FactAdmin):
    list_display = ["id", "list", "value", "valid_from", "expires_at", "author", "origin", "reason"]
    list_select_related = ["list"]
    search_fields = ["=value"]


@admin.register(SwitchAct)
class SwitchActAdmin(FactAdmin):
    list_display = ["id", "lane", "subject", "act", "by", "at", "reason"]
    list_select_related = ["lane", "rule", "by"]


POLICY = ("scoring.view_policyversion", "scoring.propose_policy", "scoring.approve_policy")
MODELS = ("scoring.view_modelversion", "scoring.propose_model", "scoring.approve_model")
admin.site.register(Rescreening, RescreeningAdmin)
site: Any = admin.site  # the desk's own, which takes pages
site.register_page(
    "thresholds/",
    desk.thresholds,
    "thresholds",
    title="Thresholds",
    icon="sliders-horizontal",
    section="Tuning",
    permission=POLICY,
)
site.register_page(
    "rules/", desk.rules, "rules", title="Rules", icon="scale", section="Tuning", permission="scoring.view_rule"
)
site.register_page(
    "lists/", list_desk.all_lists, "lists", title="Lists", icon="list-checks", section="Tuning",
    permission="scoring.view_list",
)  # fmt: skip
site.register_page("lists/<int:pk>/", list_desk.one_list, "list", title="List", permission="scoring.view_listentry")
site.register_page(
    "lists/<int:pk>/export/", list_desk.exported, "list_export", title="List", permission="scoring.view_listentry"
)
site.register_page("rules/<int:pk>/", desk.rule, "rule", title="Rule", permission="scoring.view_rule")
site.register_page(
    "approvals/", desk.approvals, "approvals", title="Approvals", icon="shield-check", section="Work",
    permission="scoring.view_proposal", waiting=desk.pending_proposals,
)  # fmt: skip
site.register_page(
    "approvals/<int:pk>/", desk.approval, "approval", title="Proposal", permission="scoring.view_proposal"
)
site.register_page(
    "models/", desk.models, "models", title="Models", icon="git-compare", section="Tuning", permission=MODELS
)
site.register_page("models/<int:pk>/", desk.model, "model", title="Model", permission=MODELS)
