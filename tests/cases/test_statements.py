"""How many statements the queue and a case may ask: twelve, in every role that a bank gives, whatever is asked of them.

The first look at a case also writes down who looked, and finds nothing remembered yet.
"""

import pytest
from django.contrib.auth.models import Group
from django.core.cache import cache
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from cases import services
from cases.models import Case, CaseAlert, Note
from cases.seeds import seed_checks
from fraudsite.roles import seed_groups
from tests.factories import (
    make_alert,
    make_case,
    make_close_reason,
    make_explanation,
    make_queue,
    make_transaction,
    make_user,
)
from transactions.codes import entity_key

MOST = 12
FIRST_LOOK = 5
QUEUE = "/desk/queue/"
LISTS = (
    "?sort=priority",
    "?sort=-amount&assignee=none",
    "?due=late&queue=cards",
    "?reason=VELOCITY&mcc=5812&country=DE&tag=mule",
    "?status=closed",
    "?status=closed&sort=-amount",
    "?status=new,closed&sort=-score",
    "?assignee=me&score_from=1&amount_from=1&currency=EUR",
    "?tag=none",
)
ROLES = ("analyst", "investigator", "team_lead", "auditor")


@pytest.fixture
def person(db):
    seed_groups()

    def of(role):
        user = make_user(role, first_name="Ines", last_name="V.")
        user.groups.add(Group.objects.get(name=role))
        return user

    return of


def incident(queue, *, alerts=60, **fields):
    """A case of one shop with many alerts of many customers."""
    made = [
        make_alert(f"payer-{n}", merchant="shop-1", score=700 + n, channel="ecommerce",
                   document={"merchant": {"id": "shop-1", "name": "Kaufhof Nord", "mcc": "5812"}})
        for n in range(alerts)
    ]  # fmt: skip
    make_explanation(made[-1])
    return make_case(*made, queue=queue, grouping_key=entity_key("merchant", "shop-1"), **fields)


def asked(client, address):
    """The statements of one page."""
    with CaptureQueriesContext(connection) as told:
        response = client.get(address)
    assert response.status_code == 200, address
    return [each["sql"] for each in told]


@pytest.mark.parametrize("role", ROLES)
def test_the_queue_asks_no_more_whatever_the_list(client, person, role):
    user = person(role)
    queue = make_queue(user)
    for number in range(55):
        make_case(make_alert(f"customer-{number}"), queue=queue, tags=["mule"], assignee=user)
    Case.objects.filter(pk__in=Case.objects.values("pk")[:20]).update(
        status="closed", disposition="legitimate", closed_at=timezone.now(), closed_by=user
    )
    client.force_login(user)
    cache.clear()
    counts = {query: len(asked(client, QUEUE + query)) for query in LISTS}
    assert max(counts.values()) <= MOST, counts


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("state", ["new", "in hand", "closed"])
def test_a_case_asks_no_more_however_large_it_is_and_in_whatever_state(client, person, role, state):
    user = person(role)
    seed_checks()
    make_close_reason("denies")
    queue = make_queue(user, grouping="merchant")
    case = incident(queue)
    for _ in range(5):
        make_transaction("payer-1")
        Note.objects.create(case=case, author=user, text="Called her.")
    if state == "in hand" and user.has_perm("cases.work_case"):
        services.claim(case.pk, user)
    if state == "closed":
        Case.objects.filter(pk=case.pk).update(
            status="closed", disposition="legitimate", closed_at=timezone.now(), closed_by=user
        )
    client.force_login(user)
    cache.clear()
    first, then = (asked(client, reverse("admin:case", args=[case.pk])) for _ in range(2))
    assert len(then) <= MOST, "\n".join(sql[:160] for sql in then)
    assert len(first) <= MOST + FIRST_LOOK
    assert CaseAlert.objects.filter(case=case).count() == 60
