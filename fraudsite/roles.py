"""Who may do what: the desk's roles as groups with their permissions, and the people of the demo.

Deny by default. Nobody is a superuser in daily work; the platform admin cannot decide cases, the model admin does not
see them. Running it again sets every group to exactly what stands here.
"""

from __future__ import annotations

from collections.abc import Mapping

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group, Permission
from django.db.transaction import atomic


def _of(app: str, *codenames: str) -> list[str]:
    return [f"{app}.{codename}" for codename in codenames]


def _views(app: str, *models: str) -> list[str]:
    return [f"{app}.view_{model}" for model in models]


DESK = [
    *_views("transactions", "transaction", "transactiondetail", "label"),
    *_views("scoring", "decision", "release", "reasoncode", "rule", "ruleversion", "list", "listentry"),
    *_views("alerts", "alert", "alertexplanation"),
    *_views("cases", "case", "queue", "casealert", "caseevent", "note", "closereason"),
]
TUNING = [
    *_views("transactions", "lane"),
    *_views("scoring", "reasoncode", "rule", "ruleversion", "policyversion", "modelversion"),
    *_views("scoring", "proposal", "release", "decision", "epoch", "list", "listentry", "switchact", "rescreening"),
]
WORK = _of("cases", "work_case")
CLOSE = _of("cases", "close_case")
UNMASK = _of("cases", "unmask")
LEAD = _of("cases", "lead_queue", "bulk_close", "approve_case", "review_quality")
SET_UP = [  # what those who lead arrange; who is in a queue and its limits stay with the platform
    *_of("cases", "view_route", "add_route", "change_route", "view_absence", "view_qualityreview"),
    *_of("cases", "view_exclusion", "add_exclusion", "delete_exclusion"),
    *_of("cases", "view_checkitem", "add_checkitem", "change_checkitem"),
    *_of("cases", "view_snippet", "add_snippet", "change_snippet", "delete_snippet"),
]
REPORT = _of("cases", "view_filing", "add_filing")  # reports of suspicious activity; others must not know of them
PROPOSE = _of("scoring", "propose_policy", "propose_rule", "add_list")
APPROVE = _of("scoring", "approve_policy", "approve_rule", "approve_list")
LISTING = _of("scoring", "propose_list", "watch_list")
SWITCH = _of("scoring", "pull_switch", "rescreen")
MODELS = _of("scoring", "propose_model", "approve_model")
PLATFORM = [
    *_of("fraudsite", "view_user", "add_user", "change_user"),
    *_of("auth", "view_group"),
    *_views("transactions", "lane", "importjob", "apikey"),
    *_of("transactions", "add_apikey", "change_apikey", "view_apiclient", "add_apiclient", "change_apiclient"),
    *_of("transactions", "view_currencyrate", "add_currencyrate"),
    *_of("cases", "view_queue", "add_queue", "change_queue", "view_route", "add_route", "change_route"),
    *_of("cases", "view_exclusion", "add_exclusion", "delete_exclusion", "view_absence"),
    *_of("cases", "view_closereason", "add_closereason", "change_closereason"),
    *_of("cases", "view_checkitem", "add_checkitem", "change_checkitem"),
]
OURS = ("transactions", "scoring", "alerts", "cases", "fraudsite")
EVERYTHING = "*view"  # every view permission of our own apps

ROLES: dict[str, list[str]] = {
    "analyst": DESK + WORK,  # closing below a limit comes with the limit; until then they escalate
    "investigator": DESK + WORK + CLOSE + UNMASK + LISTING,
    "team_lead": DESK + WORK + CLOSE + UNMASK + LEAD + REPORT + SET_UP + TUNING + PROPOSE + LISTING + SWITCH,
    "model_admin": TUNING + PROPOSE + APPROVE + MODELS + LISTING + SWITCH,
    "auditor": [EVERYTHING, *UNMASK],
    "platform_admin": PLATFORM,
}
PEOPLE: dict[str, tuple[str, str, str]] = {
    "investigator": ("Ines", "Verbeek", "investigator"),
    "investigator2": ("Tomás", "Oliveira", "investigator"),
    "lead": ("Maren", "Lindqvist", "team_lead"),
    "admin": ("Davide", "Conti", "model_admin"),
    "approver": ("Katrin", "Saar", "model_admin"),
    "auditor": ("Owen", "Pryce", "auditor"),
}


@atomic
def seed_groups() -> None:
    """Every role as a group holding exactly its permissions. Raises LookupError for one that does not exist."""
    known = {f"{p.content_type.app_label}.{p.codename}": p for p in Permission.objects.select_related("content_type")}
    for role, names in ROLES.items():
        group, _ = Group.objects.get_or_create(name=role)
        group.permissions.set(_held(names, known))


def _held(names: list[str], known: Mapping[str, Permission]) -> list[Permission]:
    if EVERYTHING in names:
        every = [name for name in known if name.split(".")[0] in OURS and ".view_" in name]
        names = [*every, *(name for name in names if name != EVERYTHING)]
    missing = [name for name in names if name not in known]
    if missing:
        raise LookupError(f"There is no permission {missing[0]}.")
    return [known[name] for name in dict.fromkeys(names)]


@atomic
def seed_people(passwords: Mapping[str, str]) -> None:
    """The demo's people in their roles, each with the password given for their username; others are left out."""
    model = get_user_model()
    for username, password in passwords.items():
        first, last, role = PEOPLE[username]
        user, created = model.objects.get_or_create(username=username)
        user.first_name, user.last_name, user.email = first, last, f"{username}@desk.invalid"
        user.is_staff = True
        if created or not user.check_password(password):
            user.set_password(password)
        user.save()
        user.groups.set([Group.objects.get(name=role)])
