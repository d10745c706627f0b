"""Alert to screen: from the moment the API was called to the frame that a socket client received.

    python -m benchmarks.screen [--rate 200] [--seconds 60] [--stored 1_000_000]

Payments are posted one by one at a rate, one in twenty of them to a policy that stops it; a signed-in socket on the
desk's one origin listens. What is measured: from the moment the payment was due to be sent to the frame that holds its
alert; beside it, to the API's own answer. The limit is that answer: no screen can show what is not decided.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from http.cookiejar import CookieJar
from typing import Any
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, Request, build_opener

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from benchmarks import calibration, crowd
from benchmarks.client import Address, post
from benchmarks.decisions import JSON, Arm, requests
from benchmarks.fill import fill, last_id
from benchmarks.ground import Ground
from benchmarks.kit import QUICK, Result, Results, numbers, options, percentiles, say

ALERT_SHARE = 0.05
SETTLE_SECONDS = 6.0


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
    asked = parser.parse_args()
    results = Results("screen", asked)
    with Ground(asked.state, small=asked.small) as ground:
        for stored in numbers(asked.stored):
            fill(ground, stored, payload=asked.payload)
        calibration.at_half_a_percent(ground, asked.payload, quick=asked.small, share=ALERT_SHARE)
        ground.start()
        results.about |= ground.about()
        before = last_id(ground)
        once(ground, asked, seconds=5)
        calibration.by_what_came(ground, before, share=ALERT_SHARE)
        for _ in range(asked.runs):
            results.add(f"{asked.rate:.0f} a second", once(ground, asked, seconds=asked.seconds))
    results.finish()


def once(ground: Ground, asked: argparse.Namespace, *, seconds: float) -> Result:
    """Post for so long with a listener."""
    arm = Arm("judged", Address.of(f"http://127.0.0.1:{ground.web_port}/api/v1/transactions", headers(ground)))
    ready = requests(arm, crowd.Payload(asked.payload), int(asked.rate * seconds))
    stopped: dict[int, tuple[float, float]] = {}  # payment → (due, answered)
    began = 0.0

    def note(number: int, status: int, body: bytes) -> None:
        if b'"approve"' in body or status != 200:
            return
        stopped[json.loads(body)["id"]] = (began + number / asked.rate, time.perf_counter())

    newest = latest_alert(ground)
    with socket(ground, f"/ws/alerts/?after={newest}") as link:
        listener = Listener(link)
        listener.start()
        time.sleep(1.0)
        accounts = ground.accounts()
        began = time.perf_counter()
        answers = post(arm.address, ready, concurrency=32, rate=asked.rate, on_answer=note)
        used = accounts.each(len(ready))
        deadline = time.monotonic() + SETTLE_SECONDS
        while stopped.keys() - listener.came.keys() and time.monotonic() < deadline:
            time.sleep(0.1)
        link.close()
    listener.join(5)
    shown = [listener.came[each] - due for each, (due, _) in stopped.items() if each in listener.came]
    told = [answered - due for due, answered in stopped.values()]
    say(f"{len(stopped)} were stopped, {len(shown)} of them shown")
    screen, answer = percentiles(shown, 1000), percentiles(told, 1000)
    return {
        "screen_ms": screen,
        "answer_ms": answer,
        "p50_to_answer": round(screen["p50"] / answer["p50"], 3) if shown and answer["p50"] else None,
        "alerts": len(stopped),
        "missed": len(stopped) - len(shown),
        "per_second": round(answers.per_second, 1),
        "statuses": {str(status): count for status, count in answers.statuses.items()},
        "cpu_us": used,
        "rss_mib": accounts.memory(),
    }


def headers(ground: Ground) -> dict[str, str]:
    """Key and media type."""
    return {"Authorization": f"Bearer {ground.key}", "Content-Type": JSON[1]}


def latest_alert(ground: Ground) -> int:
    """The seq of the lane's last alert."""
    with ground.cursor() as cursor:
        cursor.execute("SELECT coalesce(max(seq), 0) FROM alert WHERE lane = %s", [ground.lane.pk])
        return cursor.fetchone()[0]


def socket(ground: Ground, path: str) -> ClientConnection:
    """A socket of a signed-in investigator, as a browser opens it."""
    url = ground.access["url"]
    return connect(
        url.replace("http", "ws", 1) + path, origin=Origin(url), additional_headers={"Cookie": sign_in(ground)},
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
