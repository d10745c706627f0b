"""The people of a desk under load: analysts with sessions of their own, without the cost of twenty passwords."""

from __future__ import annotations

from typing import Any

from benchmarks.ground import Ground

NAMES = ("Ada", "Ben", "Cleo", "Dana", "Eli", "Finn", "Gita", "Hugo", "Ivo", "Jana")
SHARED_QUEUES = ("cards", "payments", "incidents")


def crew(ground: Ground, count: int) -> list[Any]:
    """So many investigators, made where they are not there yet, members of the lane's queues."""
    from django.contrib.auth import get_user_model
    from django.contrib.auth.models import Group

    from cases.models import Queue

    people, group = [], Group.objects.get(name="investigator")
    for number in range(count):
        named = {"first_name": NAMES[number % len(NAMES)], "last_name": f"Bench {number + 1}", "is_staff": True}
        user, _ = get_user_model().objects.get_or_create(username=f"analyst-{number + 1:02}", defaults=named)
        user.groups.add(group)
        people.append(user)
    for queue in Queue.objects.filter(lane=ground.lane, slug__in=SHARED_QUEUES):
        queue.members.add(*people)
    return people


def session_of(user: Any) -> str:
    """The Cookie header of a session of this person, as signing in makes one."""
    from importlib import import_module

    from django.conf import settings
    from django.contrib.auth import login
    from django.http import HttpRequest

    request = HttpRequest()
    request.session = import_module(settings.SESSION_ENGINE).SessionStore()
    login(request, user, backend=settings.AUTHENTICATION_BACKENDS[0])
    request.session.save()
    return f"{settings.SESSION_COOKIE_NAME}={request.session.session_key}"
