"""Alert to screen: from the moment the API was called to the frame that a socket client received, and to the browser.

    python -m benchmarks.screen [--rate 200] [--seconds 60] [--stored 1_000_000] [--analysts 20]

Payments are posted one by one at a rate, one in twenty of them to a policy that stops it; a signed-in socket on the
desk's one origin listens. What is measured: from the moment the payment was due to be sent to the frame that holds its
alert; beside it, to the API's own answer. The limit is that answer: no screen can show what is not decided.

Then the same with the sockets of twenty analysts besides, each with a session of its own and the sampled stream, and,
where Playwright and Chromium are there, with a real browser on the live page: from the same moment to the frame that it
draws after the alert is announced. The desk promises 500 ms (p95) for that.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from http.cookiejar import CookieJar
from typing import Any
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, Request, build_opener

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from benchmarks import browser, calibration, crowd
from benchmarks.client import Address, Answers, post
from benchmarks.crew import crew, session_of
from benchmarks.decisions import JSON, Arm, requests
from benchmarks.fill import fill
from benchmarks.ground import Ground
from benchmarks.kit import QUICK, Result, Results, numbers, options, percentiles, say

ALERT_SHARE = 0.05
SETTLE_SECONDS = 6.0
DRAW_SECONDS = 3.0  # for the browser's page to draw what came last: in a storm it does so once a second

Stopped = dict[int, tuple[float, float]]  # payment → (due, answered)


class Listener(threading.Thread):
    """A browser's socket: notes when each alert came, by the payment's id."""

    def __init__(self, link: ClientConnection) -> None:
        super().__init__(daemon=True)
        self.link = link
        self.came: dict[int, float] = {}

    def run(self) -> None:
        """Until the socket is closed."""
        try:
            for text in self.link:
                now, message = time.perf_counter(), json.loads(text)
                if message["type"] == "alerts":
                    for alert in message["alerts"]:
                        self.came.setdefault(alert["id"], now)
        except ConnectionClosed:
            return


def main() -> None:
    """Fill, start, listen, post; `--runs` times."""
    parser = options(__doc__, stored="20_000" if QUICK else "1_000_000")
    parser.add_argument("--rate", type=float, default=200.0)
    parser.add_argument("--seconds", type=float, default=10.0 if QUICK else 60.0)
    parser.add_argument("--payload", choices=["minimal", "full"], default="full")
    parser.add_argument("--analysts", type=int, default=20, help="Sockets besides, and a browser if one is there.")
    asked = parser.parse_args()
    results = Results("screen", asked)
    with Ground(asked.state, small=asked.small) as ground:
        for stored in numbers(asked.stored):
            fill(ground, stored, payload=asked.payload)
        calibration.at_half_a_percent(ground, asked.payload, quick=asked.small, share=ALERT_SHARE)
        ground.start()
        results.about |= ground.about()
        before = ground.standing()
        once(ground, asked, seconds=5)
        calibration.by_what_came(ground, before, share=ALERT_SHARE)
        for _ in range(asked.runs):
            results.add(f"{asked.rate:.0f} a second", once(ground, asked, seconds=asked.seconds))
            if asked.analysts:
                besides(ground, asked, results)
    results.finish()


def besides(ground: Ground, asked: argparse.Namespace, results: Results) -> None:
    """The same with analysts, and with a browser if there is one."""
    people, arm = crew(ground, asked.analysts), f"{asked.rate:.0f} a second, {asked.analysts} analysts"
    with ExitStack() as open_ones:
        screen = None
        if browser.is_there():
            screen = open_ones.enter_context(browser.live_page(ground, session_of(people[0])))
            arm += " and a browser"
        else:
            say("no Playwright or no Chromium: the browser's own part is not measured")
        newest = latest_alert(ground)
        path = f"/ws/alerts/?after={newest}&samples=1"
        listeners = [Listener(open_ones.enter_context(socket(ground, path, session_of(each)))) for each in people]
        for listener in listeners:
            listener.start()
        results.add(arm, once(ground, asked, seconds=asked.seconds, others=listeners, screen=screen))


def once(
    ground: Ground,
    asked: argparse.Namespace,
    *,
    seconds: float,
    others: Sequence[Listener] = (),
    screen: browser.Screen | None = None,
) -> Result:
    """Post for so long with a listener; `others` listen besides, `screen` is a browser's page."""
    arm = Arm("judged", Address.of(f"http://127.0.0.1:{ground.web_port}/api/v1/transactions", headers(ground)))
    ready = requests(arm, crowd.Payload(asked.payload), int(asked.rate * seconds))
    stopped: Stopped = {}
    with socket(ground, f"/ws/alerts/?after={latest_alert(ground)}") as link:
        listener = Listener(link)
        listener.start()
        time.sleep(1.0)
        accounts = ground.accounts()
        answers = post_noting(arm.address, ready, asked.rate, stopped)
        used = accounts.each(len(ready))
        deadline = time.monotonic() + SETTLE_SECONDS
        while stopped.keys() - listener.came.keys() and time.monotonic() < deadline:
            time.sleep(0.1)
        link.close()
    listener.join(5)
    since_1970 = time.time() - time.perf_counter()
    seen: dict[int, tuple[float, float]] = {}
    if screen:
        time.sleep(DRAW_SECONDS)
        seen = screen.told()
    shown = [listener.came[each] - due for each, (due, _) in stopped.items() if each in listener.came]
    told = [answered - due for due, answered in stopped.values()]
    say(f"{len(stopped)} were stopped, {len(shown)} of them shown")
    came, answer = percentiles(shown, 1000), percentiles(told, 1000)
    return {
        "screen_ms": came,
        "answer_ms": answer,
        "p50_to_answer": round(came["p50"] / answer["p50"], 3) if shown and answer["p50"] else None,
        **_of_others(stopped, others),
        **(_of_browser(stopped, seen, since_1970) if screen else {}),
        "alerts": len(stopped),
        "missed": len(stopped) - len(shown),
        "per_second": round(answers.per_second, 1),
        "statuses": {str(status): count for status, count in answers.statuses.items()},
        "cpu_us": used,
        "rss_mib": accounts.memory(),
    }


def post_noting(address: Address, ready: list[bytes], rate: float, stopped: Stopped) -> Answers:
    """Post these at a rate; of each payment that is stopped `stopped` gets when it was due and when answered."""
    began = time.perf_counter()

    def note(number: int, status: int, body: bytes) -> None:
        if b'"approve"' not in body and status == 200:
            stopped[json.loads(body)["id"]] = (began + number / rate, time.perf_counter())

    return post(address, ready, concurrency=32, rate=rate, on_answer=note)


def _of_others(stopped: Stopped, others: Sequence[Listener]) -> Result:
    """All sockets together."""
    if not others:
        return {}
    late = [each.came[alert] - due for each in others for alert, (due, _) in stopped.items() if alert in each.came]
    return {"analysts_ms": percentiles(late, 1000), "analysts_missed": len(others) * len(stopped) - len(late)}


def _of_browser(stopped: Stopped, seen: dict[int, tuple[float, float]], since_1970: float) -> Result:
    """What the page noted: the message, and the announcement."""
    both = [(seen[alert], since_1970 + due) for alert, (due, _) in stopped.items() if alert in seen]
    return {
        "browser_ms": percentiles([announced - due for (_, announced), due in both], 1000),
        "browser_message_ms": percentiles([message - due for (message, _), due in both], 1000),
        "browser_missed": len(stopped) - len(both),
    }


def headers(ground: Ground) -> dict[str, str]:
    """Key and media type."""
    return {"Authorization": f"Bearer {ground.key}", "Content-Type": JSON[1]}


def latest_alert(ground: Ground) -> int:
    """The seq of the lane's last alert."""
    with ground.cursor() as cursor:
        cursor.execute("SELECT coalesce(max(seq), 0) FROM alert WHERE lane = %s", [ground.lane.pk])
        return cursor.fetchone()[0]


def socket(ground: Ground, path: str, cookie: str = "") -> ClientConnection:
    """A socket of a signed-in investigator, or of another session, as a browser opens it."""
    url = ground.access["url"]
    given = {"Cookie": cookie or sign_in(ground)}
    return connect(
        url.replace("http", "ws", 1) + path, origin=Origin(url), additional_headers=given,
        open_timeout=15, max_size=None,
    )  # fmt: skip


def sign_in(ground: Ground, username: str = "investigator") -> str:
    """Sign in by the form; the Cookie header."""
    url, jar = ground.access["url"], CookieJar()
    browser = build_opener(HTTPCookieProcessor(jar))
    browser.open(f"{url}/desk/login/", timeout=30).read()
    token = next(cookie.value for cookie in jar if cookie.name == "csrftoken")
    user: dict[str, Any] = ground.access["users"][username]
    form = {**user, "csrfmiddlewaretoken": token, "next": "/desk/"}
    browser.open(Request(f"{url}/desk/login/", urlencode(form).encode(), {"Referer": url}), timeout=30).read()
    return "; ".join(f"{cookie.name}={cookie.value}" for cookie in jar)


if __name__ == "__main__":
    main()
