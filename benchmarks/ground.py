"""A desk of its own for a benchmark: servers with full durability in their own folder, a model, 30 live rules.

`Ground` prepares what `make run` prepares, puts the benchmark's release in force and, when asked, starts the whole
desk. The folder is removed at the end unless it was named by `--state`; then the next run finds everything there.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psycopg2

from benchmarks import memory
from benchmarks.kit import ROOT, say
from benchmarks.processes import Accounts

START_SECONDS = 240.0
STOP_SECONDS = 60.0
ALERT_SHARE = 0.005
NOTHING = "nothing"  # the long file that keeps the memory full, see benchmarks.memory
# What the model learns from. Hardly a day of it is judged and worked: that is the demo's, not the ground's.
PAST = {"FRAUD_DEMO_DAYS": "75", "FRAUD_DEMO_PER_DAY": "1100", "FRAUD_DEMO_RECENT": "2"}
SMALL_PAST = {"FRAUD_DEMO_DAYS": "30", "FRAUD_DEMO_PER_DAY": "300", "FRAUD_DEMO_RECENT": "2"}
LEAST_FREE = 6_000_000_000

LIVE_RULES = 30
# So many of these as make thirty live rules with those that the desk is seeded with. Worded as analysts do, and rare.
MORE_RULES = (
    ("B-01", "CARD_TESTING", "card_count_10m >= 6 and amount < 5"),
    ("B-02", "VELOCITY", "customer_count_1h >= 12 and customer_count_1h > 3 * customer_usual_24h"),
    ("B-03", "VELOCITY", 'device_count_24h >= 60 and channel in ("ecommerce", "mobile_app")'),
    ("B-04", "SPENDING", "amount >= 9000 and customer_amount_to_max_30d >= 4 and customer_count_30d >= 5"),
    ("B-05", "AMOUNT_UNUSUAL", "customer_amount_z >= 14 and customer_amount_to_mean >= 12 and amount >= 2000"),
    ("B-06", "IMPOSSIBLE_TRAVEL", "customer_speed_kmh > 1500 and customer_distance_km > 5000 and amount >= 900"),
    ("B-07", "ABROAD", "customer_new_country and abroad and amount >= 4000 and customer_seen_days >= 60"),
    ("B-08", "DEVICE_TAMPERED", "device_remote_access and customer_new_device and amount >= 1500"),
    ("B-09", "DEVICE_RISK", "device_cards >= 12 and device_customers >= 12 and amount >= 700"),
    ("B-10", "IP_RISK", "device_hidden and customer_new_device and amount >= 3000"),
    ("B-11", "NEW_PAYEE", 'type == "transfer" and customer_new_counterparty and amount >= 8000 and night'),
    ("B-12", "PAYEE_RISK", "counterparty_customers >= 20 and counterparty_count_24h >= 20"),
    ("B-13", "MERCHANT_RISK", "merchant_fraud_count_30d >= 12 and merchant_fraud_share_7d >= 0.3"),
    ("B-14", "TERMINAL_RISK", "terminal_fraud_count_30d >= 6 and terminal_fraud_run >= 4"),
    ("B-15", "KNOWN_FRAUD", "card_since_fraud < 3 and amount >= 800 and customer_amount_to_mean >= 4"),
)


class Ground:
    """The folder, its servers, the lane and client of the demo in it. Use as a context manager."""

    def __init__(self, state: Path | None, *, small: bool = False) -> None:
        self.kept = state is not None
        self.state = (state or Path(tempfile.mkdtemp(prefix="fraud-desk-bench-"))).absolute()
        self.small = small
        self.supervisor: subprocess.Popen[bytes] | None = None
        self.port = 0
        self.ready = False  # whether Django is set up

    # --- life ---------------------------------------------------------------------------------------------------------

    def __enter__(self) -> Ground:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as an exception, so that nothing is left behind
        try:
            self._provide()
            self._prepare()
            if not self.small:
                memory.fill(self.state / NOTHING)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        from fraudsite import embedded

        self.stop()
        (self.state / NOTHING).unlink(missing_ok=True)
        if self.ready:
            from django.db import connections

            connections.close_all()
        embedded.release(self.state)
        embedded.wait_until_stopped(self.state)
        if not self.kept:
            embedded.forget(self.state)
            shutil.rmtree(self.state, ignore_errors=True)

    def _provide(self) -> None:
        """Servers up, with the moment of each commit kept: commit-to-decision is measured from it."""
        from fraudsite import embedded

        self.state.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.state).free
        if free < LEAST_FREE:
            raise SystemExit(f"{free / 1e9:.0f} GB left at {self.state}; a benchmark needs {LEAST_FREE / 1e9:.0f}.")
        for name in ("DATABASE_URL", "VALKEY_URL", "REDIS_URL"):
            os.environ.pop(name, None)
        os.environ |= {
            "FRAUD_MODE": "demo",
            "FRAUD_STATE": str(self.state),
            "DJANGO_SETTINGS_MODULE": "fraudsite.settings",
            "PYTHONUNBUFFERED": "1",
            "LOG_LEVEL": os.environ.get("LOG_LEVEL", "WARNING"),
            # Counted as ever, but one client stands for all of a bank's: it must not be what is measured.
            "FRAUD_REQUESTS_PER_MINUTE": "10000000",
            "FRAUD_BULK_REQUESTS_PER_MINUTE": "1000000",
            **(SMALL_PAST if self.small else PAST),
        }
        say(f"servers and data in {self.state}")
        servers = embedded.ensure_servers(self.state)
        if _set(servers.database_url, "track_commit_timestamp", "on"):
            embedded.release(self.state)
            embedded.wait_until_stopped(self.state)
            servers = embedded.ensure_servers(self.state)
        os.environ |= {"DATABASE_URL": servers.database_url, "VALKEY_URL": servers.valkey_url}

    def _prepare(self) -> None:
        """Tables, people, history, model, release: as `make run` does; then what the benchmarks judge by."""
        from fraudsite.supervisor import set_environment

        set_environment(self.state)
        say("tables, history and model (as at the first `make run`) …")
        with open(self.state / "prepare.log", "ab") as log:
            command = [sys.executable, "manage.py", "prepare_demo"]
            if subprocess.run(command, cwd=ROOT, stdout=log, stderr=log, timeout=1_800).returncode:
                raise SystemExit(f"prepare_demo failed; see {self.state / 'prepare.log'}")
        import django

        django.setup()
        self.ready = True
        self.release_id = put_in_force(self.lane)

    @property
    def lane(self) -> Any:
        """The lane that judges."""
        from fraudsite import demo
        from transactions.models import Lane

        return Lane.objects.get(name=demo.LANE)

    @property
    def client(self) -> Any:
        """The API client that the payments belong to."""
        from fraudsite import demo
        from transactions.models import ApiClient

        return ApiClient.objects.select_related("lane").get(name=demo.CLIENT)

    @property
    def access(self) -> dict[str, Any]:
        """demo.json: url, api_key, users."""
        return json.loads((self.state / "demo.json").read_text())

    @property
    def key(self) -> str:
        """The API key."""
        return self.access["api_key"]

    # --- the whole desk -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """The supervisor of `make run` with all its children, no traffic."""
        from fraudsite import embedded

        self.port = embedded.free_port()
        output = self.state / "supervisor.log"
        environment = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "VALKEY_URL")}
        environment |= {"PORT": str(self.port), "FRAUD_TRAFFIC": "0", "HOST": "localhost"}
        say("starting the desk …")
        (self.state / "run.json").unlink(missing_ok=True)
        with open(output, "wb") as file:
            command = [sys.executable, "-m", "fraudsite.supervisor"]
            self.supervisor = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=file, stderr=file)
        deadline = time.monotonic() + START_SECONDS
        while "Fraud desk: http" not in output.read_text(errors="replace"):
            if self.supervisor.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise SystemExit("the desk did not start:\n" + output.read_text(errors="replace")[-3_000:])
            time.sleep(0.1)
        say(f"the desk runs at port {self.port}")

    def stop(self) -> None:
        """Ctrl-C for the supervisor, and wait."""
        if self.supervisor is None:
            return
        if self.supervisor.poll() is None:
            self.supervisor.send_signal(signal.SIGINT)
        try:
            self.supervisor.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.supervisor.kill()
            self.supervisor.wait()
        self.supervisor = None

    @property
    def children(self) -> dict[str, int]:
        """Process ids of the desk's children by name."""
        path = self.state / "run.json"
        return json.loads(path.read_text())["children"] if path.exists() else {}

    @property
    def web_port(self) -> int:
        """Where the web process itself listens, without the proxy."""
        text = Path(f"/proc/{self.children['web']}/cmdline").read_text().split("\0")
        return int(text[text.index("--port") + 1])

    def accounts(self, **more: int) -> Accounts:
        """CPU by process: this one as `client`, the servers, and the desk's children if it runs."""
        from fraudsite import embedded

        pids = {"client": os.getpid(), **embedded.process_ids(self.state), **more}
        if self.supervisor is not None:
            pids |= {"supervisor": self.supervisor.pid, **self.children}
        return Accounts(pids)

    def manage(self, *arguments: str, seconds: float = 1_800) -> str:
        """What a manage.py command prints. Raises CalledProcessError."""
        command = [sys.executable, "manage.py", *arguments]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=seconds, check=True)
        return done.stdout.strip()

    @contextmanager
    def cursor(self, *, asynchronous: bool = False) -> Iterator[Any]:
        """A cursor on a connection of its own, autocommit."""
        with closing(psycopg2.connect(os.environ["DATABASE_URL"])) as link:
            link.autocommit = True
            with link.cursor() as cursor:
                if asynchronous:
                    cursor.execute("SET synchronous_commit = off")
                yield cursor

    def standing(self) -> int:
        """The lane's seq: how much it has taken in, ever."""
        with self.cursor() as cursor:
            cursor.execute("SELECT seq FROM lane_cursor WHERE lane = %s", [self.lane.pk])
            return (cursor.fetchone() or (0,))[0]

    def about(self) -> dict[str, Any]:
        """What judges: the model's size, the rules and thresholds in force, how much is stored."""
        from scoring.models import Release

        release = Release.objects.select_related("model", "policy").filter(lane=self.lane).order_by("-id").first()
        with self.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM decision")
            stored = cursor.fetchone()[0]
        return {
            "stored": stored,
            "live_rules": sum(rule["mode"] == "live" for rule in release.rules),
            "thresholds": json.dumps(release.policy.thresholds),
            "model": model_size(release.model),
        }


def _set(url: str, name: str, value: str) -> bool:
    """ALTER SYSTEM where the setting is another one; True if the server must start anew."""
    with closing(psycopg2.connect(url)) as link:
        link.autocommit = True
        with link.cursor() as cursor:
            cursor.execute(f"SHOW {name}")
            if cursor.fetchone()[0] == value:
                return False
            cursor.execute(f"ALTER SYSTEM SET {name} = {value}")
            return True


def model_size(model: Any) -> str:
    """Trees and bytes of a model version's artefact."""
    from django.conf import settings

    if model is None:
        return "none"
    folder = Path(settings.MODEL_DIR) / model.artefact
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    made = model.card.get("estimator", {})
    with np.load(folder / "arrays.npz", allow_pickle=False) as kept:
        boosted, forest, nodes = len(kept["boosted_roots"]), len(kept["forest_roots"]), len(kept["boosted_nodes"])
    return (
        f"{len(model.card['features'])} features and the anomaly, {boosted} trees of depth {made.get('depth')}"
        f" ({nodes:,} nodes), isolation forest of {forest} trees, {size / 1e3:,.0f} kB"
    )


# --- what judges ------------------------------------------------------------------------------------------------------


def usable_rules() -> list[tuple[str, str, str]]:
    """Those of MORE_RULES that the kernel's present features can answer; the others are told of and left out."""
    from scoring.rules import RuleError, compile_expression, vocabulary

    found, words = [], vocabulary()
    for rule in MORE_RULES:
        try:
            compile_expression(rule[2], words)
        except RuleError as error:
            say(f"rule {rule[0]} is left out: {error}")
        else:
            found.append(rule)
    return found


def put_in_force(lane: Any, thresholds: dict[str, dict[str, int]] | None = None) -> int:
    """A release with thirty live rules and, if given, other thresholds; its id. Done once for each folder."""
    from scoring import releases
    from scoring.models import PolicyVersion, Rule, RuleVersion

    release = releases.in_force(lane)
    if release is None:
        raise SystemExit("prepare_demo left no release")
    given: dict[str, Any] = {}
    if not Rule.objects.filter(lane=lane, code=MORE_RULES[0][0]).exists():
        rules = [{**entry, "mode": "live"} for entry in release.rules]
        for code, reason, expression in usable_rules()[: LIVE_RULES - len(rules)]:
            rule = Rule.objects.create(lane=lane, code=code, name=code, owner="benchmark")
            version = RuleVersion.objects.create(
                rule=rule, number=1, expression=expression, outcome="review", weight=100, reason_id=reason,
                sentence="As the rule says", mode="live", created_by="benchmark",
            )  # fmt: skip
            rules.append({"version": version.pk, "mode": "live"})
        given["rules"] = rules
    if thresholds:
        newest = PolicyVersion.objects.filter(lane=lane).order_by("-number").first()
        given["policy"] = PolicyVersion.objects.create(
            lane=lane, number=newest.number + 1 if newest else 1, thresholds=thresholds, hold_minutes=120,
            created_by="benchmark",
        )  # fmt: skip
    if given:
        release = releases.activate(lane, by="benchmark", reason="Benchmark", **given)
    return release.pk
