"""The preferences page: what is kept, what is refused, and that every page follows it without a query of its own."""

import json

import pytest
from django.core.exceptions import ValidationError
from django.urls import reverse

from cases import preferences
from cases.models import DeskPreference
from fraudsite.models import User
from fraudsite.sessions import DeskBackend
from tests.factories import make_user

pytestmark = pytest.mark.django_db


@pytest.fixture
def ines(client) -> User:
    user = make_user("ines", "alerts.view_alert")
    client.force_login(user)
    return user


def chosen(user: User) -> preferences.Preferences:
    return preferences.of(User.objects.get(pk=user.pk))


def form(**changes: str) -> dict[str, str]:
    keys = {f"key-{key}": key for key in preferences.KEYS}
    return (
        {"theme": "system", "density": "normal", "motion": "system", "time_zone": "", "shortcuts": "on"}
        | keys
        | changes
    )


def test_somebody_new_has_the_defaults_and_no_row(ines):
    assert chosen(ines) == preferences.Preferences()
    assert not DeskPreference.objects.exists()


def test_the_form_keeps_everything_and_every_page_follows(client, ines):
    answer = client.post(
        reverse("admin:preferences"), form(theme="dark", density="dense", motion="reduced", time_zone="Asia/Tokyo")
    )
    assert answer.status_code == 302
    kept = chosen(ines)
    assert (kept.theme, kept.density, kept.motion, kept.time_zone) == ("dark", "dense", "reduced", "Asia/Tokyo")
    assert (kept.sound, kept.auto_next) == (False, False)  # unchecked boxes are not sent
    page = client.get(reverse("admin:index"))
    assert b'data-preferred="dark" data-density="dense" data-motion="reduced"' in page.content
    assert page.context["desk_preferences"]["zone"] == "Asia/Tokyo"


def test_a_chosen_zone_comes_before_the_browsers_even_if_it_is_utc(client, ines):
    client.cookies["desk_zone"] = "Asia/Tokyo"
    preferences.save(ines, time_zone="UTC")
    assert client.get(reverse("admin:index")).context["desk_preferences"]["zone"] == "UTC"


def test_a_key_given_to_two_acts_is_refused_and_nothing_is_kept(client, ines):
    answer = client.post(reverse("admin:preferences"), form(theme="dark", **{"key-n": "j"}))
    assert answer.status_code == 422
    assert b"The key J would do two things" in answer.content
    assert chosen(ines).theme == "system"


def test_keys_may_be_swapped_and_only_what_differs_is_kept(client, ines):
    client.post(reverse("admin:preferences"), form(**{"key-j": "K", "key-k": "J"}))
    assert chosen(ines).keys == {"j": "k", "k": "j"}


@pytest.mark.parametrize(
    "changes",
    [
        {"theme": "pink"},
        {"time_zone": "Mars/Olympus"},
        {"sound": "yes"},
        {"keys": {"n": "nn"}},
        {"keys": {"Q": "x"}},
        {"keys": {"n": " "}},
        {"unknown": True},
        {"theme": ["dark"]},
        {"keys": {"n": ["x"]}},
    ],
)
def test_what_is_not_offered_is_refused(ines, changes):
    with pytest.raises(ValidationError):
        preferences.save(ines, **changes)
    assert chosen(ines) == preferences.Preferences()


def test_a_small_change_in_passing_names_only_itself(client, ines):
    preferences.save(ines, theme="dark")
    send = {"content_type": "application/json"}
    assert client.post(reverse("admin:preferences"), json.dumps({"sound": True}), **send).json() == {"sound": True}
    assert (chosen(ines).theme, chosen(ines).sound) == ("dark", True)
    assert client.post(reverse("admin:preferences"), "[1]", **send).status_code == 400
    assert client.post(reverse("admin:preferences"), json.dumps({"theme": 3}), **send).status_code == 422


def test_a_value_that_is_no_longer_offered_falls_back(ines):
    DeskPreference.objects.create(user=ines, values={"theme": "sepia", "density": "dense", "gone": 1})
    assert chosen(ines) == preferences.Preferences(density="dense")


def test_signing_in_reads_a_person_and_their_preferences_in_one_query(ines, django_assert_num_queries):
    preferences.save(ines, theme="dark")
    stranger = make_user("stranger")
    with django_assert_num_queries(2):
        assert preferences.of(DeskBackend().get_user(ines.pk)).theme == "dark"
        assert preferences.of(DeskBackend().get_user(stranger.pk)).theme == "system"


def test_nobody_signed_in_has_the_defaults(client):
    from django.contrib.auth.models import AnonymousUser

    assert preferences.of(AnonymousUser()) == preferences.Preferences()


def test_a_person_who_was_switched_off_is_nobody(ines):
    User.objects.filter(pk=ines.pk).update(is_active=False)
    assert DeskBackend().get_user(ines.pk) is None


def test_a_session_says_when_it_ends_and_can_be_made_longer(client, ines, settings):
    left = client.get(reverse("admin:index")).context["session_left"]
    assert settings.SESSION_COOKIE_AGE - 60 < left <= settings.SESSION_COOKIE_AGE
    session = client.session
    session["desk_ends_at"] -= 3600
    session.save()
    assert client.get(reverse("admin:index")).context["session_left"] <= left - 3590
    assert client.post(reverse("admin:stay")).json() == {"seconds": settings.SESSION_COOKIE_AGE}
    assert client.get(reverse("admin:index")).context["session_left"] > left - 60
    assert client.get(reverse("admin:stay")).status_code == 405
