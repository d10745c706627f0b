"""The live page in a real browser: alerts wait for the reader, and a lost line loses and doubles nothing."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from threading import Thread

import pytest
from django.conf import settings
from django.contrib.sessions.models import Session
from django.db import connection, connections
from django.test import Client
from playwright.sync_api import Browser, Page, expect, sync_playwright

from alerts import live
from alerts.models import Alert
from tests.factories import make_alert, make_user
from transactions.codes import CHANNEL, CURRENCY, OUTCOME
from transactions.facts import micros

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]


class Line:
    """The line between browsers and a server: a port that passes everything on, until it is cut."""

    def __init__(self, server: int) -> None:
        self.server = server
        self.whole = True
        self.sockets: list[socket.socket] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near = self.listener.accept()[0]
            except OSError:
                return
            if not self.whole:
                near.close()
                continue
            far = socket.create_connection(("127.0.0.1", self.server))
            self.sockets += [near, far]
            Thread(target=self._pass_on, args=(near, far), daemon=True).start()
            Thread(target=self._pass_on, args=(far, near), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        """Every connection breaks, and no new one is taken."""
        self.whole = False
        for end in self.sockets:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        self.whole = True


@pytest.fixture(scope="module")
def server(django_db_setup, django_db_blocker) -> Iterator[int]:
    """The port of a desk on the test's database."""
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    base, _, _ = os.environ["DATABASE_URL"].rpartition("/")
    environment = {**os.environ, "DATABASE_URL": f"{base}/{connection.settings_dict['NAME']}"}
    serve = [
        sys.executable,
        "-m",
        "granian",
        "--interface",
        "asginl",
        "--port",
        str(port),
        "fraudsite.asgi:application",
    ]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(serve, cwd=settings.BASE_DIR, env=environment, stdout=quiet, stderr=quiet)
    wait_for(port)
    yield port
    process.terminate()
    process.wait(20)


def wait_for(port: int) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        with closing(socket.socket()) as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError("the desk did not start")


@pytest.fixture
def line(server: int) -> Iterator[Line]:
    line = Line(server)
    yield line
    line.cut()
    line.listener.close()


@pytest.fixture
def browser(monkeypatch) -> Iterator[Browser]:
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")  # the browser's driver runs a loop in this thread
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=os.environ.get("CHROMIUM", "/usr/bin/chromium"), args=FLAGS
        )
        yield chromium
        chromium.close()
        connections.close_all()  # the one that belongs to the driver's loop


@pytest.fixture
def page(line: Line, browser: Browser) -> Page:
    """The live page as an analyst has it open, with one alert on it."""
    make_alert(customer="cust-000001")
    client = Client()
    client.force_login(make_user("ana", "alerts.view_alert", "cases.view_case"))
    context = browser.new_context()
    context.add_cookies([{"name": "session", "value": client.cookies["session"].value, "url": line.url}])
    page = context.new_page()
    page.goto(f"{line.url}/desk/live/")
    expect(page.get_by_test_id("live-state")).to_have_text("Live", timeout=15000)
    return page


@pytest.fixture
def push(monkeypatch) -> Callable[[Alert], None]:
    """Publishes an alert as the lane does after its commit."""
    pushes = live.Pushes()
    last = Alert.objects.order_by("-seq").first()
    pushes._last = {last.lane: last.seq} if last else {}

    def publish(alert: Alert) -> None:
        pushes.alerts(alert.lane, columns_of(alert))
        assert pushes.flush()

    return publish


def columns_of(alert: Alert) -> live.Rows:
    """The alert as the lane has it at hand: codes and micro-seconds."""
    told = {name: getattr(alert, name) for name in live.SHOWN_COLUMNS} | {"id": alert.pk}
    told |= {"outcome": OUTCOME.code(alert.outcome), "currency": CURRENCY.code(alert.currency)}
    told |= {"channel": CHANNEL.code(alert.channel), "raised_at": micros(alert.raised_at)}
    told |= {"occurred_at": micros(alert.occurred_at)}
    return {name: ("", [value]) for name, value in told.items()}


def shown(page: Page) -> list[str]:
    return page.eval_on_selector_all("[data-alerts] tr", "rows => rows.map(row => row.dataset.alert)")


def test_an_alert_waits_behind_the_banner_until_the_reader_asks(page, push):
    before = shown(page)
    alert = make_alert(customer="cust-004417")
    push(alert)
    expect(page.get_by_test_id("live-banner")).to_contain_text("1 new", timeout=2000)
    assert shown(page) == before
    page.keyboard.press("r")
    assert shown(page) == [str(alert.pk), *before]
    row = page.locator("[data-alerts] tr").first
    expect(row).to_contain_text("CU ••4417")
    assert row.locator("a").get_attribute("href").endswith(f"cases/by-alert/{alert.pk}/")


def test_after_a_lost_line_the_missed_alerts_are_there_once(page, line, push):
    first = make_alert()
    push(first)
    expect(page.get_by_test_id("live-banner")).to_contain_text("1 new", timeout=2000)
    line.cut()
    expect(page.get_by_test_id("live-state")).to_have_text("Reconnecting", timeout=10000)
    missed = [make_alert(), make_alert()]
    line.mend()
    expect(page.get_by_test_id("live-state")).to_have_text("Live", timeout=20000)
    expect(page.get_by_test_id("live-banner")).to_contain_text("3 new", timeout=5000)
    page.keyboard.press("r")
    assert shown(page)[:3] == [str(alert.pk) for alert in (missed[1], missed[0], first)]
    assert len(shown(page)) == len(set(shown(page))) == 4


def test_who_is_signed_out_is_told_so_and_gets_nothing_more(page, line, push):
    Session.objects.all().delete()
    line.cut()
    line.mend()
    expect(page.get_by_test_id("live-state")).to_have_text("Signed out", timeout=20000)
    expect(page.get_by_test_id("sign-in-notice")).to_contain_text("You are signed out")
    push(make_alert())
    page.wait_for_timeout(500)
    expect(page.get_by_test_id("live-banner")).not_to_be_visible()
