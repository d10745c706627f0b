"""The plain records behind the desk: members see their queues', names are masked, documents need a reason."""

import pytest
from django.contrib.auth.models import Group
from django.urls import reverse

from cases import services
from cases.models import CaseEvent, Note, Sighting
from fraudsite.roles import seed_groups
from tests.factories import make_alert, make_case, make_queue, make_user

REASON = "The customer asked which payment it was."


@pytest.fixture
def roles(db):
    seed_groups()

    def person(username, role):
        user = make_user(username)
        user.groups.add(Group.objects.get(name=role))
        return type(user).objects.get(pk=user.pk)

    return person


@pytest.fixture
def ines(roles):
    return roles("ines", "investigator")


@pytest.fixture
def case(ines):
    case = make_case(make_alert("cust-qxzv"), queue=make_queue(ines))
    services.claim(case.pk, ines)
    services.add_note(case.pk, "Called the customer.", by=ines)
    return case


def listed(model):
    return reverse(f"admin:{model}_changelist")


def shown(model, row):
    return reverse(f"admin:{model}_change", args=[row.pk])


def test_the_records_of_cases_are_for_the_members_of_their_queue(client, roles, ines, case):
    stranger, auditor = roles("tomas", "investigator"), roles("owen", "auditor")
    make_queue(stranger, name="Elsewhere")
    rows = (("cases_case", case), ("cases_caseevent", CaseEvent.objects.get()), ("cases_note", Note.objects.get()))
    for reader, found in ((ines, True), (stranger, False), (auditor, True)):
        client.force_login(reader)
        for model, row in rows:
            assert (case.number in client.get(listed(model)).content.decode()) == found, model
            assert (client.get(shown(model, row)).status_code == 200) == found, model


@pytest.mark.parametrize("model", ["cases_case", "alerts_alert", "transactions_transaction"])
def test_a_customers_name_is_masked_in_lists_and_on_the_record(client, ines, case, model):
    client.force_login(ines)
    alert = case.case_alerts.get().alert
    row = {"cases_case": case, "alerts_alert": alert, "transactions_transaction": alert.transaction}[model]
    for page in (client.get(listed(model)), client.get(shown(model, row))):
        assert page.status_code == 200 and "cust-qxzv" not in page.content.decode()
    assert "CU ••qxzv" in client.get(shown(model, row)).content.decode()


def test_a_document_opens_with_a_reason_and_each_look_is_kept(client, roles, ines, case):
    document = case.case_alerts.get().alert.transaction.detail
    where = shown("transactions_transactiondetail", document)
    client.force_login(ines)
    assert client.get(where).status_code in (302, 403)
    customer = reverse("admin:entity_unmask", args=["customer", str(case.customer)])
    assert client.post(customer, {"reason": REASON}).status_code == 302
    assert "cust-qxzv" in client.get(where).content.decode()
    assert Sighting.objects.filter(actor=ines, act="unmasked", data__document=str(document.pk)).count() == 1
    client.force_login(roles("ana", "analyst"))
    assert client.get(where).status_code in (302, 403)
