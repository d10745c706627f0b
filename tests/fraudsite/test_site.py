"""The shell of the desk: who finds what in it, and that no page needs anything a strict policy forbids."""

import re
from collections.abc import Iterator
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path

import pytest
from django.conf import settings
from django.contrib import admin
from django.contrib.staticfiles import finders
from django.urls import reverse

from fraudsite.models import User
from fraudsite.roles import seed_groups
from scoring.models import LaneStatus
from tests.factories import make_alert, make_lane, make_user
from transactions.models import Lane

OWN = ["index", "password_change"]


def stock_pages() -> list[str]:
    """The changelist of every registered model."""
    return [f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist" for model in admin.site._registry]


def listed_pages() -> list[str]:
    return [f"admin:{name}" for name, page in admin.site.pages.items() if page.section]


class Forbidden(HTMLParser):
    """Collects what a policy of 'self' would block: inline scripts, styles, handlers and foreign sources."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.script: dict[str, str | None] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.found += [f"<{tag} {name}>" for name in given if name == "style" or name.startswith("on")]
        self.found += [
            f"{name}={value}" for name, value in given.items() if name in ("src", "srcset") and foreign(value)
        ]
        if tag == "style":
            self.found.append("<style>")
        if tag == "script":
            self.script = given

    def handle_endtag(self, tag: str) -> None:
        self.script = None if tag == "script" else self.script

    def handle_data(self, data: str) -> None:
        if self.script is not None and data.strip() and self.script.get("type") != "application/json":
            self.found.append(f"inline script: {data[:40]}")


def foreign(value: str | None) -> bool:
    return bool(value) and not str(value).startswith(("/", "data:"))


def forbidden(html: str) -> list[str]:
    parser = Forbidden()
    parser.feed(html)
    return parser.found


@pytest.fixture
def reader(client, db) -> Iterator:
    """A signed-in superuser: sees every page there is."""
    user = User.objects.create(
        username="ines", first_name="Ines", last_name="Verbeek", is_staff=True, is_superuser=True
    )
    client.force_login(user)
    return client


def check(response) -> None:
    policy = response.headers["Content-Security-Policy"]
    assert response.status_code == 200
    assert "script-src 'self'" in policy
    assert "style-src 'self'" in policy
    assert "unsafe" not in policy
    assert forbidden(response.content.decode()) == []


@pytest.mark.parametrize("name", [*(f"admin:{page}" for page in OWN), *listed_pages(), *stock_pages()])
def test_every_page_of_the_desk_and_of_the_stock_admin_is_clean_under_the_strict_policy(reader, name):
    make_alert()
    check(reader.get(reverse(name)))


def test_the_page_of_an_app_stands_in_the_shell(reader):
    response = reader.get(reverse("admin:app_list", args=["alerts"]))
    check(response)
    assert b'id="nav-sidebar"' in response.content


def test_a_stock_form_is_clean_too(reader):
    check(reader.get(reverse("admin:fraudsite_user_change", args=[User.objects.get().pk])))
    check(reader.get(reverse("admin:fraudsite_user_add")))


def test_the_sign_in_page_is_clean_and_says_what_is_wrong(client, db):
    check(client.get(reverse("admin:login")))
    response = client.post(reverse("admin:login"), {"username": "nobody", "password": "wrong"})
    check(response)
    assert b'role="alert"' in response.content


def test_the_scan_itself_finds_what_it_looks_for():
    bad = (
        '<p style="x" onclick="y"></p><style></style><script>alert(1)</script><img src="https://elsewhere.test/x.png">'
    )
    assert len(forbidden(bad)) == 5
    assert forbidden('<script type="application/json">{}</script><script src="/a.js"></script>') == []


def test_the_root_leads_to_the_desk_and_the_desk_to_the_sign_in(client, db):
    assert client.get("/").headers["Location"] == "/desk/"
    assert client.get("/desk/").headers["Location"].startswith("/desk/login/")


def test_signing_out_is_a_post(reader):
    assert reader.get(reverse("admin:logout")).status_code == 405
    assert b"signed out" in reader.post(reverse("admin:logout")).content


@pytest.mark.parametrize(
    ("role", "finds", "misses"),
    [
        ("investigator", {"Queue", "Live", "Dashboard"}, {"Models"}),
        ("model_admin", {"Dashboard", "Approvals", "Thresholds", "Rules", "Models"}, {"Queue", "Live"}),
        ("platform_admin", {"Dashboard"}, {"Queue", "Live", "Thresholds"}),
    ],
)
def test_the_rail_lists_what_a_role_may_open(client, db, role, finds, misses):
    from django.contrib.auth.models import Group

    seed_groups()
    user = User.objects.create(username=role, is_staff=True)
    user.groups.add(Group.objects.get(name=role))
    client.force_login(user)
    response = client.get(reverse("admin:index"))
    titles = {page["title"] for section in response.context["navigation"] for page in section["pages"]}
    assert finds & set(known_titles()) <= titles
    assert not misses & titles


def known_titles() -> list[str]:
    return ["Dashboard", *(page.title for page in admin.site.pages.values() if page.section)]


def test_a_page_refuses_who_may_not_open_it_with_a_page_of_the_desk(client, db):
    client.force_login(make_user("platform"))
    response = client.get(reverse("admin:live"))
    assert response.status_code == 403
    assert b"Your role does not include it" in response.content
    assert forbidden(response.content.decode()) == []


def test_the_badge_is_on_the_pages_of_those_who_may_see_alerts(client, db):
    client.force_login(make_user("ana", "alerts.view_alert"))
    assert b'data-testid="live-state"' in client.get(reverse("admin:index")).content
    client.force_login(make_user("pat"))
    assert b'data-testid="live-state"' not in client.get(reverse("admin:index")).content


def test_the_dashboard_shows_each_reader_what_the_role_allows(client, db):
    client.force_login(make_user("ana", "alerts.view_alert"))
    context = client.get(reverse("admin:index")).context
    assert "alerts" in context
    assert "volume" not in context and "cases" not in context


def test_times_follow_the_readers_zone(client, db):
    lane = Lane.objects.create(name="cards")
    LaneStatus.objects.create(lane=lane, seen_at="2026-11-20T12:00:00Z")
    user = make_user("ana", "alerts.view_alert")
    client.force_login(user)
    client.cookies["desk_zone"] = "Asia/Tokyo"
    assert b">21:00:00</time>" in client.get(reverse("admin:index")).content
    user.time_zone = "Europe/Berlin"
    user.save()
    assert b">13:00:00</time>" in client.get(reverse("admin:index")).content


def test_alerts_are_read_only_in_the_admin_and_never_counted(reader, django_assert_max_num_queries):
    alert = make_alert()
    with django_assert_max_num_queries(12) as queries:
        assert reader.get(reverse("admin:alerts_alert_changelist")).status_code == 200
    counts = [query["sql"] for query in queries.captured_queries if "COUNT(" in query["sql"]]
    # The rail counts cases, and looks at alerts only to leave out excluded customers.
    assert not any(sql.partition(' FROM "')[2].startswith('alert"') for sql in counts)
    assert reader.get(reverse("admin:alerts_alert_change", args=[alert.pk])).status_code == 200
    assert reader.post(reverse("admin:alerts_alert_delete", args=[alert.pk]), {"post": "yes"}).status_code == 403
    assert reader.post(reverse("admin:alerts_alert_change", args=[alert.pk]), {"score": 1}).status_code == 403


def test_the_live_page_starts_where_its_rows_end(reader):
    lane = make_lane()
    alerts = [make_alert() for _ in range(3)]
    response = reader.get(reverse("admin:live"))
    assert response.context["cursor"] == {str(lane.pk): max(alert.seq for alert in alerts)}
    assert len(response.context["alerts"]) == 3


# What was taken over as it is: file → SHA-256. A vendored file is replaced together with its line here.
TAKEN_OVER = {
    "fonts/inter-latin-ext-wght-normal.woff2": "34b9c504cab7a73e37b746343a449132e56cf7b5481af2cb81dc74dcff25c956",
    "fonts/inter-latin-wght-normal.woff2": "3100e775e8616cd2611beecfa23a4263d7037586789b43f035236a2e6fbd4c62",
    "fonts/jetbrains-mono-latin-wght-normal.woff2": "18be452724bfdc236c074ca94a249a7f41a86752c7d04ab258ce9ed5651f6a7e",
    "icons/sprite.svg": "a833bf4e32272a1b9b4c220422d69d42541e1063be97828a67c2affc44bbc5da",
}


@pytest.mark.parametrize("name", TAKEN_OVER)
def test_files_taken_over_are_what_they_were(name):
    assert sha256(Path(finders.find(f"desk/{name}")).read_bytes()).hexdigest() == TAKEN_OVER[name]


def test_licences_travel_with_what_was_taken_over():
    for name in ("fonts/LICENSE-inter.txt", "fonts/LICENSE-jetbrains-mono.txt", "icons/LICENSE-lucide.txt"):
        assert finders.find(f"desk/{name}")


def test_nothing_static_names_another_host_or_a_missing_file():
    """The manifest storage would stop on a missing file; a page would break on a foreign one."""
    folder = Path(settings.BASE_DIR) / "static"
    for sheet in folder.rglob("*.css"):
        for target in re.findall(r"url\(\"?([^)\"]+)", sheet.read_text()):
            assert target.startswith("data:") or (sheet.parent / target).exists(), (sheet.name, target)
    for script in folder.rglob("*.js"):
        text = script.read_text()
        for target in re.findall(r"from \"(\.[^\"]+)\"", text):
            assert (script.parent / target).exists(), (script.name, target)
        assert "sourceMappingURL" not in text, script.name


def test_icons_that_templates_name_are_in_the_sprite():
    known = set(re.findall(r'id="([^"]+)"', Path(finders.find("desk/icons/sprite.svg")).read_text()))
    templates = Path(settings.BASE_DIR) / "templates"
    named = {name for page in templates.rglob("*.html") for name in re.findall(r'{% icon "([^"]+)"', page.read_text())}
    listed = {page.icon for page in admin.site.pages.values()}
    assert named | listed <= known


def test_the_commands_of_the_palette_are_the_pages_a_person_may_open(client, db):
    client.force_login(make_user("ana", "alerts.view_alert"))
    labels = {command["label"] for command in client.get(reverse("admin:index")).context["commands"]}
    assert {"Live", "Dashboard", "Preferences"} <= labels
    assert "Queue" not in labels and "Thresholds" not in labels


def test_each_page_of_the_rail_has_its_own_key():
    from fraudsite.site import GO

    assert len(set(GO.values())) == len(GO)


def test_the_bell_counts_mentions_that_were_not_seen(client, db):
    from cases.models import Mention, Note
    from tests.factories import make_case

    ana, ben = make_user("ana", "cases.view_case"), make_user("ben", "cases.view_case")
    client.force_login(ana)
    assert b'aria-label="Mentions"' in client.get(reverse("admin:index")).content
    note = Note.objects.create(case=make_case(), author=ben, text="@ana please look")
    Mention.objects.create(note=note, user=ana)
    assert b'aria-label="Mentions, 1 not seen"' in client.get(reverse("admin:index")).content


def test_pages_that_only_answer_scripts_stand_in_no_list(reader):
    titles = {
        page["title"]
        for section in reader.get(reverse("admin:index")).context["navigation"]
        for page in section["pages"]
    }
    assert not {"Find", "Stay signed in"} & titles


@pytest.mark.parametrize("name", ["preferences", "design_system"])
def test_the_shells_own_pages_are_clean_under_the_strict_policy(reader, name):
    check(reader.get(reverse(f"admin:{name}")))


def test_every_token_of_the_design_system_is_painted_and_every_part_shown_in_both_themes(reader):
    from fraudsite import design_system

    html = reader.get(reverse("admin:design_system")).content.decode()
    sheet = Path(finders.find("desk/shell.css")).read_text()
    tokens = Path(finders.find("desk/tokens.css")).read_text()
    for _, colours in design_system.COLOURS:
        for name, _ in colours:
            assert f".d-sw--{name} " in sheet and f"--{name}:" in tokens
    for name, title, _ in design_system.COMPONENTS:
        assert f'id="{name}"' in html and html.count(f'aria-label="{title}, ') == 2


def test_every_id_on_the_shells_pages_is_there_once(reader):
    for name in ("index", "preferences", "design_system", "live"):
        found = re.findall(r'\bid="([^"]+)"', reader.get(reverse(f"admin:{name}")).content.decode())
        assert len(found) == len(set(found)), [each for each in found if found.count(each) > 1]


def test_a_signed_out_session_closes_its_sockets(client, db, monkeypatch):
    from alerts import live

    told: list[str] = []
    monkeypatch.setattr(live, "end_session", told.append)
    client.force_login(make_user("ana"))
    key = client.session.session_key
    client.post(reverse("admin:logout"))
    assert told == [key]
