"""Every POST of the desk, by people without the right or the membership: it is refused and nothing has changed.

The table below names each page that takes a POST, with a form that does something in the right hands; a page that is
not in it must change nothing at all. So a new page cannot be forgotten here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.auth.models import Group
from django.core.cache import cache
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db.models import BinaryField
from django.urls import reverse
from django.utils import timezone

from cases import approvals, bulk, late_labels, notes, services
from cases.acts_desk import ACTS
from cases.attachments import attach
from cases.models import Attachment, Case, CheckItem, Mention, QualityReview, Queue, SavedView, Sighting, Snippet
from fraudsite.roles import seed_groups
from scoring import lists
from scoring.models import ReasonCode, Rule, RuleVersion
from tests.cases.acting import WHY
from tests.factories import (
    make_alert,
    make_case,
    make_close_reason,
    make_lane,
    make_queue,
    make_release,
    make_user,
)
from transactions.codes import entity_key
from transactions.models import Label
from transactions.services import LabelIn, record_labels

OURS = ("cases", "scoring", "transactions")
ONES_OWN = {"Sighting", "DeskPreference"}  # looks, which are told of everybody, and how one likes one's own desk
REFUSED = (403, 404, 405)

Target = tuple[str, dict[str, Any]]


def person(username: str, role: str) -> Any:
    user = make_user(username)
    user.groups.add(Group.objects.get(name=role))
    return type(user).objects.get(pk=user.pk)


class World:
    """A queue with a case in every state, its lead and an investigator; an auditor, and people of another queue."""

    def __init__(self) -> None:
        cache.clear()
        seed_groups()
        make_release(make_lane())
        make_close_reason("denies")
        self.boss, self.ines = person("boss", "team_lead"), person("ines", "investigator")
        self.auditor = person("owen", "auditor")
        self.strangers = [person("tomas", "investigator"), person("lena", "team_lead")]
        self.queue = make_queue(self.boss, self.ines, quality_share=1.0)
        self.elsewhere = make_queue(*self.strangers, self.boss, name="Elsewhere")
        self.made = 0
        self.item = CheckItem.objects.create(text="Called the customer")
        maker = make_user("maker", "scoring.add_list")
        self.watch = lists.create_list(make_lane(), "watched", kind="watch", subject="customer", by=maker)
        self.rule = Rule.objects.create(lane=make_lane(), code="R-7", name="Seven", owner="ines")
        reason = ReasonCode.objects.create(code="MUCH", title="Much", description="Much.", source="rule")
        text = {"expression": "amount > 1", "outcome": "review", "weight": 1, "sentence": "Much.", "created_by": "ines"}
        RuleVersion.objects.create(rule=self.rule, number=1, reason=reason, **text)
        cache.clear()

    def case(self, by: Any = None) -> Case:
        """A case in hand, of the boss unless said otherwise."""
        self.made += 1
        made = make_case(make_alert(f"cust-{self.made}"), queue=self.queue)
        return services.claim(made.pk, by or self.boss)

    def closed(self, by: Any, disposition: str = "legitimate") -> Case:
        case = self.case(by)
        return services.close_case(case.pk, disposition, by=by, close_reason="denies", rationale=WHY)

    def asked(self) -> Any:
        """What Ines asks a second person: to open her own close again."""
        services.reopen_case(self.closed(self.ines).pk, by=self.ines, note="The customer called back.")
        return approvals.visible(self.ines).get(answer="")

    def asked_by_the_boss(self) -> Case:
        """A case whose close the boss wants approved."""
        self.queue.four_eyes_from = 1
        self.queue.save()
        return services.close_case(self.case().pk, "legitimate", by=self.boss, close_reason="denies", rationale=WHY)


def form(case: Case, **more: Any) -> dict[str, Any]:
    """A form that every act of a case finds its fields in."""
    alert = case.case_alerts.order_by("pk")[0]
    return {
        "version": case.version,
        "disposition": "confirmed_fraud",
        "fraud_type": "mule",
        "close_reason": "denies",
        "rationale": WHY,
        "note": "Because it has to be.",
        "minutes": "60",
        "level": "1",
        "payment": alert.pk,
        "do": "released",
    } | more


def act(name: str) -> Callable[[World], Target]:
    """A POST of the case page, on a case in the state in which its act can be done."""

    def target(world: World) -> Target:
        case = STATES.get(name, World.case)(world)
        more = {"tick": world.item.pk} if name == "check" else {}
        if name == "list":
            more = {f"list-customer-{case.case_alerts.get().pk}": world.watch.pk}
        return reverse("admin:case_act", args=[case.pk, name]), form(case, **more)

    return target


STATES: dict[str, Callable[[World], Case]] = {
    "take-over": lambda world: world.case(world.ines),
    "undo": lambda world: world.closed(world.boss),
    "reopen": lambda world: world.closed(world.ines),
    "withdraw": World.asked_by_the_boss,
}


def of_case(name: str, **fields: Any) -> Callable[[World], Target]:
    return lambda world: (reverse(f"admin:{name}", args=[world.case().pk]), fields)


def remove_file(world: World) -> Target:
    case = world.case()
    file = attach(case.pk, "a.txt", [b"words"], by=world.boss)
    return reverse("admin:case_file_remove", args=[case.pk, file.pk]), {"reason": "It is of another customer."}


def verdicts(world: World) -> Target:
    case = world.case()
    given = {"version": case.version, f"verdict-{case.case_alerts.get().pk}": "legitimate"}
    return reverse("admin:case_verdicts", args=[case.pk]), given


def bulk_run(world: World) -> Target:
    plan = bulk.plan("tag", by=world.boss, ids=[world.case().pk])
    return reverse("admin:queue_bulk_run", args=[plan.token]), {"reason": WHY, "add": "mule"}


def assign(world: World) -> Target:
    return reverse("admin:queue_assign", args=[make_case(make_alert("free"), queue=world.queue).pk]), {}


def view_act(name: str) -> Callable[[World], Target]:
    def target(world: World) -> Target:
        view = SavedView.objects.create(owner=world.boss, name="Mine", address="due=late")
        return reverse("admin:queue_view_act", args=[view.pk, name]), {}

    return target


def of_entity(name: str, **fields: Any) -> Callable[[World], Target]:
    def target(world: World) -> Target:
        world.case()
        return reverse(f"admin:{name}", args=["customer", str(entity_key("customer", "cust-1"))]), fields

    return target


def mention(world: World) -> Target:
    services.add_note(world.case(world.ines).pk, "@boss please look.", by=world.ines)
    return reverse("admin:mention", args=[Mention.objects.get().pk]), {}


def mentions(world: World) -> Target:
    mention(world)
    return reverse("admin:mentions"), {}


def snippet(world: World) -> Target:
    kept = Snippet.objects.create(title="Team", text="For all.")
    return reverse("admin:snippets"), {"id": kept.pk, "act": "remove"}


def late_label(act: str) -> Callable[[World], Target]:
    def target(world: World) -> Target:
        case, now = world.closed(world.ines), timezone.now()
        told = {"transaction_id": case.case_alerts.get().pk, "known_at": now, "happened_at": now}
        record_labels([LabelIn(verdict="fraud", source="chargeback", **told)])
        late_labels.mark_of([case.pk])
        return reverse("admin:late_labels"), {"case": case.pk, "act": act, "reason": "The chargeback says so."}

    return target


def rebalance(world: World) -> Target:
    free = make_case(make_alert("free"), queue=world.queue)
    return reverse("admin:rebalance"), {"case": free.pk, "to": f"person:{world.ines.pk}"}


def review(world: World) -> Target:
    world.closed(world.ines)
    given = {"finding": "disagree", "comment": "The device was new that day.", "reopen": "1"}
    return reverse("admin:review", args=[QualityReview.objects.get().pk]), given


def absence(world: World) -> Target:
    now = timezone.localtime()
    times = {name: f"{now + timedelta(days=n):%Y-%m-%dT%H:%M}" for name, n in (("starts_at", 1), ("ends_at", 2))}
    return reverse("admin:absences"), {"user": world.ines.pk, **times}


def route(world: World) -> Target:
    given = {"name": "All", "lane": make_lane().pk, "position": 1, "queue": world.queue.pk, "save": "1"}
    return reverse("admin:routes"), given


def hand_over(world: World) -> Target:
    world.case()
    return reverse("admin:hand_over"), {"to": world.ines.pk, "note": "I am off until Monday."}


def decide(act: str) -> Callable[[World], Target]:
    def target(world: World) -> Target:
        return reverse("admin:case_approval", args=[world.asked().pk]), {"act": act, "reason": "I see it otherwise."}

    return target


def next_case(world: World) -> Target:
    make_case(make_alert("free"), queue=world.queue)
    return reverse("admin:next_case"), {}


def watch(world: World) -> Target:
    return reverse("admin:list", args=[world.watch.pk]), {"act": "add", "value": "cust-9", "reason": "A known mule."}


def export(name: str, kind: str) -> Callable[[World], Target]:
    return lambda world: (reverse(f"admin:{name}", args=[world.case().pk, kind]), {})


# Each page that takes a POST, by its name and what is done there.
TARGETS: dict[str, Callable[[World], Target]] = {
    **{f"case_act {name}": act(name) for name in ACTS},
    "case_lease": of_case("case_lease"),
    "case_presence": of_case("case_presence", version="1"),
    "case_note": of_case("case_note", text="Called the customer."),
    "case_tags": of_case("case_tags", tags="mule"),
    "case_filing": of_case("case_filing", decision="not_filed", detected_on="2026-01-02", note="Not enough to go on."),
    "case_files": of_case("case_files", file=None),
    "case_file_remove": remove_file,
    "case_verdicts": verdicts,
    "case_pack pdf": export("case_pack", "pdf"),
    "case_pack zip": export("case_pack", "zip"),
    "case_history_export csv": export("case_history_export", "csv"),
    "case_history_export json": export("case_history_export", "json"),
    "next_case": next_case,
    "queue_assign": assign,
    "queue_bulk_run": bulk_run,
    "queue_view_save": lambda world: (reverse("admin:queue_view_save"), {"name": "Late", "address": "?due=late"}),
    **{f"queue_view_act {name}": view_act(name) for name in ("share", "default", "delete")},
    "entity_note": of_entity("entity_note", text="Known to us."),
    "entity_unmask": of_entity("entity_unmask", reason="The customer asked about it."),
    "mentions": mentions,
    "mention": mention,
    "snippets": snippet,
    "late_labels leave": late_label("leave"),
    "late_labels reopen": late_label("reopen"),
    "rebalance": rebalance,
    "review": review,
    "absences": absence,
    "routes": route,
    "hand_over": hand_over,
    **{f"case_approval {name}": decide(name) for name in ("approve", "reject")},
    "preferences": lambda world: (reverse("admin:preferences"), {"theme": "dark"}),
    "stay": lambda world: (reverse("admin:stay"), {}),
    "list": watch,
    "lists": lambda world: (reverse("admin:lists"), {"name": "new", "kind": "watch", "subject": "card"}),
    "thresholds": lambda world: (
        reverse("admin:thresholds"),
        {"challenge-default": 510, "review-default": 710, "decline-default": 910, "reason": "Fewer alerts."},
    ),
    "rule": lambda world: (reverse("admin:rule", args=[world.rule.pk]), {"switch": "pull", "reason": "It misfires."}),
    "models": lambda world: (reverse("admin:models"), {"switch": "pull", "reason": "It misfires."}),
}
# What an auditor does as part of reading: each leaves a sighting, or is about the auditor's own desk.
READING = {"case_presence", "case_pack", "case_history_export", "entity_unmask"}
OWN_DESK = {"preferences", "stay", "mentions", "queue_view_save", "queue_view_act"}
# What is not about anybody's cases: a role's right is enough, whatever the queue.
NOT_OF_A_QUEUE = {"list", "lists", "thresholds", "rule", "models", "routes", "snippets", "entity_note"}
# What names one case, which other queues' people are not even told of.
OF_A_CASE = {
    *("case_act", "case_lease", "case_presence", "case_note", "case_tags", "case_files", "case_filing", "mention"),
    *(
        "case_file_remove",
        "case_verdicts",
        "case_pack",
        "case_history_export",
        "queue_assign",
        "review",
        "case_approval",
    ),
}
# Nothing to be seen afterwards, even in the right hands.
LEAVES_NOTHING = READING | {"preferences", "stay", "lists", "thresholds", "rule", "models"}


@pytest.fixture
def world(db, settings, tmp_path):
    settings.ATTACHMENT_DIR = tmp_path / "attachments"
    settings.ATTACHMENT_SCAN = []
    return World()


def everything() -> dict[str, list[Any]]:
    """All that people's acts could change, as values."""
    models = [model for app in OURS for model in apps.get_app_config(app).get_models()]
    models = [model for model in models if model.__name__ not in ONES_OWN]
    return {model.__name__: rows_of(model) for model in [*models, Queue.members.through]}


def rows_of(model: Any) -> list[Any]:
    names = [field.attname for field in model._meta.concrete_fields if not isinstance(field, BinaryField)]
    return sorted(map(repr, model.objects.values_list(*names)))  # a missing coordinate is no number, unlike itself


def post(client: Any, target: Target) -> Any:
    url, fields = target
    if "file" in fields:
        fields = {"file": SimpleUploadedFile("a.txt", b"words")}
    answer = client.post(url, fields)
    if answer.streaming:
        b"".join(answer.streaming_content)  # read to its end, as a browser does
    return answer


def page_of(name: str) -> str:
    return name.split()[0]


@pytest.mark.parametrize("name", TARGETS)
def test_a_post_without_right_or_membership_is_refused_and_changes_nothing(client, world, name):
    target = TARGETS[name](world)
    before = everything()
    answer = post(client, target)
    assert answer.status_code == 302 and answer.url.startswith("/desk/login/")
    client.force_login(world.auditor)
    answer = post(client, target)
    if page_of(name) not in READING | OWN_DESK:
        assert answer.status_code in REFUSED
    if page_of(name) in READING and page_of(name) != "case_presence":
        assert Sighting.objects.filter(actor=world.auditor, act__in=("exported", "unmasked")).count() == 1
    for stranger in [] if page_of(name) in NOT_OF_A_QUEUE else world.strangers:
        client.force_login(stranger)
        post(client, target)
    if page_of(name) != "queue_view_save":  # a view of one's own
        assert everything() == before


@pytest.mark.parametrize("name", [name for name in TARGETS if page_of(name) in OF_A_CASE])
def test_a_case_of_another_queue_does_not_exist_for_a_direct_post(client, world, name):
    target = TARGETS[name](world)
    for stranger in world.strangers:
        client.force_login(stranger)
        assert post(client, target).status_code in (403, 404)


@pytest.mark.parametrize("name", [name for name in TARGETS if page_of(name) not in LEAVES_NOTHING])
def test_the_same_post_in_the_right_hands_does_something(client, world, name):
    target = TARGETS[name](world)
    before = everything()
    client.force_login(world.boss)
    answer = post(client, target)
    assert answer.status_code in (200, 302), answer.content.decode()[:2000]
    assert everything() != before


def test_every_other_page_changes_nothing_by_a_post(client, world):
    case = world.case()
    note = services.add_note(case.pk, "Called.", by=world.boss)
    file = attach(case.pk, "a.txt", [b"words"], by=world.boss)
    values = {
        "case_id": case.pk, "alert_id": case.case_alerts.get().pk, "attachment_id": file.pk, "note": note.pk,
        "kind": "customer", "key": str(entity_key("customer", "cust-1")), "lane": "cards", "code": "R-7", "number": 1,
        "table": "flow", "pk": world.watch.pk, "token": "none", "act": "none", "form": "none",
    }  # fmt: skip
    known = {page_of(name) for name in TARGETS}
    others = [page for page in admin.site.pages.values() if page.name not in known]
    assert len(others) > 20
    for reader in (world.boss, world.auditor):
        client.force_login(reader)
        before = everything()
        for page in others:
            given = values | ({"key": "desk"} if page.route.startswith("dashboard") else {})
            path = re.sub(r"<\w+:(\w+)>", r"{\1}", page.route).format(**given)
            assert client.post(f"/desk/{path}", {"note": "x"}).status_code < 500, page.name
        assert everything() == before


def test_whoever_takes_something_away_leaves_a_line_with_what_it_was(client, world):
    case = world.case()
    client.force_login(world.auditor)
    for name, kind in (("case_pack", "pdf"), ("case_pack", "zip"), ("case_history_export", "csv")):
        answer = client.post(reverse(f"admin:{name}", args=[case.pk, kind]))
        assert answer.status_code == 200
        assert "no-store" in answer.headers["Cache-Control"]
    told = [row.data["what"] for row in Sighting.objects.filter(act="exported", case=case).order_by("pk")]
    assert told == ["report pdf", "report zip", "history csv"]
    assert not Attachment.objects.exists() and not Label.objects.exists()
    assert not notes.of_case(case).exists()


def test_a_list_that_is_taken_away_leaves_a_line_too(client, world):
    client.force_login(world.auditor)
    assert client.get(reverse("admin:list_export", args=[world.watch.pk])).status_code == 200
    assert Sighting.objects.get(act="exported").data["list"] == "watched"
