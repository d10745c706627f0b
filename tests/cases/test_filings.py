"""Reports of suspicious activity: kept with what the authorities ask for, and told to nobody without the right."""

import json
from datetime import date, timedelta

import pytest
from django.db import DatabaseError
from django.db.transaction import atomic
from django.urls import reverse
from django.utils import timezone

from cases import audit, filings, packs, report, services
from cases.history import NotAllowed
from cases.models import CaseEvent, Filing, Sighting
from tests.factories import LEAD, READ, WORK, make_alert, make_case, make_queue, make_user

RIGHTS = ("cases.view_filing", "cases.add_filing")
NUMBER = "FIU-2026-AB417"


@pytest.fixture
def lena(db):
    return make_user("lena", *LEAD, *RIGHTS)


@pytest.fixture
def maren(db):
    """Leads as well, but must not know of reports."""
    return make_user("maren", *LEAD)


@pytest.fixture
def case(lena, maren):
    return make_case(make_alert("anna"), queue=make_queue(lena, maren, make_user("ines", *WORK)))


def filed(case, by, **changes):
    given = {"decision": "filed", "detected_on": date(2026, 11, 2), "filed_on": date(2026, 11, 20), "reference": NUMBER}
    return filings.keep(case.pk, by=by, **given | changes)


def test_what_is_kept_stands_and_the_same_again_is_the_same(case, lena):
    first = filed(case, lena, decision="preparing")
    assert filings.due_on(first) == date(2026, 12, 2) and first.filed_on is None
    second = filed(case, lena)
    assert filed(case, lena) == second and filings.due_on(second) is None
    assert filings.of(case, lena) == [second, first]
    with pytest.raises(DatabaseError, match="append-only"), atomic():
        Filing.objects.update(reference="another")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"decision": "perhaps"}, "decision"),
        ({"detected_on": None}, "detected_on"),
        ({"detected_on": timezone.localdate() + timedelta(days=2)}, "detected_on"),
        ({"filed_on": None}, "filed_on"),
        ({"reference": " "}, "reference"),
        ({"decision": "not_filed"}, "note"),
    ],
)
def test_what_is_missing_is_said(case, lena, changes, field):
    with pytest.raises(filings.IncompleteFiling) as refused:
        filed(case, lena, **changes)
    assert set(refused.value.errors) == {field}
    with pytest.raises(services.RefusedText):
        filed(case, lena, note="Card 4111 1111 1111 1111")
    assert not Filing.objects.exists()


def test_who_lacks_the_right_or_the_membership_is_refused(case, maren):
    for person in (maren, make_user("stranger", *LEAD, *RIGHTS), make_user("auditor", *READ, "cases.view_filing")):
        with pytest.raises(NotAllowed):
            filed(case, person)


def test_nobody_else_hears_that_there_is_one(client, case, lena, maren):
    client.force_login(lena)
    where = reverse("admin:case_filing", args=[case.pk])
    form = {"decision": "filed", "detected_on": "2026-11-02", "filed_on": "2026-11-20", "reference": NUMBER}
    assert NUMBER in client.post(where, form, follow=True).content.decode()
    assert "filing-open" in client.get(reverse("admin:case_files", args=[case.pk])).content.decode()
    assert Sighting.objects.filter(act="report_viewed", case=case).count() == 1
    assert CaseEvent.objects.filter(case=case).count() == 0
    client.force_login(maren)
    assert client.get(where).status_code == 403 and client.post(where, form).status_code == 403
    for path in ("", "files/", "history/", "timeline/"):
        text = client.get(reverse("admin:case", args=[case.pk]) + path).content.decode()
        assert NUMBER not in text and "eport viewed" not in text and "filing-open" not in text
    for kind in ("csv", "json"):
        told = client.post(reverse("admin:case_history_export", args=[case.pk, kind]))
        assert "report_viewed" not in b"".join(told.streaming_content).decode()
    assert filings.of(case, maren) == []
    assert {line.kind for line in audit.every_line(case, lena)} >= {"report_viewed"}


def test_the_pack_holds_reports_only_for_those_who_may_know(case, lena, maren):
    filed(case, lena)
    assert NUMBER in json.dumps(packs.document(case, lena))
    assert NUMBER not in json.dumps(packs.document(case, maren))
    assert report.drawn(packs.document(case, lena)).startswith(b"%PDF-")


def test_an_auditor_reads_and_keeps_nothing(client, case, lena):
    filed(case, lena)
    client.force_login(make_user("owen", *READ, "cases.view_filing"))
    text = client.get(reverse("admin:case_filing", args=[case.pk])).content.decode()
    assert NUMBER in text and 'data-testid="filing-form"' not in text


def test_a_refused_form_keeps_what_was_written(client, case, lena):
    client.force_login(lena)
    form = {"decision": "filed", "detected_on": "2026-11-02", "reference": NUMBER}
    answer = client.post(reverse("admin:case_filing", args=[case.pk]), form)
    assert answer.status_code == 422
    text = answer.content.decode()
    assert "Say when it was filed" in text and 'value="2026-11-02"' in text and f'value="{NUMBER}"' in text
