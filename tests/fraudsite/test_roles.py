"""Roles hold exactly what the table of rights says."""

from __future__ import annotations

import json

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.core.management import CommandError, call_command

from fraudsite.roles import PEOPLE, ROLES, seed_groups, seed_people

pytestmark = pytest.mark.django_db


@pytest.fixture
def people():
    seed_groups()
    seed_people({name: f"{name}-long-password" for name in PEOPLE})
    return {user.username: user for user in get_user_model().objects.all()}


def test_every_role_is_a_group_and_every_person_is_in_one(people):
    assert set(Group.objects.values_list("name", flat=True)) == set(ROLES)
    assert all(user.is_staff and not user.is_superuser and user.groups.count() == 1 for user in people.values())
    assert people["investigator"].get_full_name() == "Ines Verbeek"
    assert people["admin"].check_password("admin-long-password")


TABLE = [
    ("alerts.view_alert", {"investigator", "investigator2", "lead", "auditor"}),
    ("cases.work_case", {"investigator", "investigator2", "lead"}),
    ("cases.close_case", {"investigator", "investigator2", "lead"}),
    ("cases.lead_queue", {"lead"}),
    ("cases.approve_case", {"lead"}),
    ("cases.bulk_close", {"lead"}),
    ("cases.review_quality", {"lead"}),
    ("cases.view_filing", {"lead", "auditor"}),
    ("cases.add_filing", {"lead"}),
    ("cases.change_route", {"lead"}),
    ("cases.change_queue", set()),  # the platform's: its limits bind those who lead
    ("scoring.propose_policy", {"lead", "admin", "approver"}),
    ("scoring.approve_policy", {"admin", "approver"}),
    ("scoring.propose_model", {"admin", "approver"}),
    ("scoring.view_proposal", {"lead", "admin", "approver", "auditor"}),
    ("scoring.propose_list", {"investigator", "investigator2", "lead", "admin", "approver"}),
    ("scoring.watch_list", {"investigator", "investigator2", "lead", "admin", "approver"}),
    ("scoring.approve_list", {"admin", "approver"}),
    ("scoring.pull_switch", {"lead", "admin", "approver"}),
    ("fraudsite.change_user", set()),
    ("cases.delete_case", set()),
]


@pytest.mark.parametrize(("right", "holders"), TABLE)
def test_a_right_is_held_by_those_the_table_names(people, right, holders):
    assert {name for name, user in people.items() if user.has_perm(right)} == holders


def test_seeding_again_takes_away_what_was_added_by_hand(people):
    group = Group.objects.get(name="investigator")
    before = set(group.permissions.values_list("pk", flat=True))
    group.permissions.clear()
    call_command("seed_roles", verbosity=0)
    assert set(group.permissions.values_list("pk", flat=True)) == before


def test_people_come_from_the_input(monkeypatch):
    monkeypatch.setattr("sys.stdin.read", lambda: json.dumps({"auditor": "a-long-password"}))
    call_command("seed_roles", people=True, verbosity=0)
    assert get_user_model().objects.get().username == "auditor"
    monkeypatch.setattr("sys.stdin.read", lambda: json.dumps({"mallory": "x"}))
    with pytest.raises(CommandError, match="mallory"):
        call_command("seed_roles", people=True, verbosity=0)
