"""Settings stop the start with one sentence on a bad or missing value."""

import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from celery.fixups.django import DjangoWorkerFixup
from django.conf import settings
from django.db import OperationalError, connection

from fraudsite.celery import app, look_at_connections
from fraudsite.embedded import ROOT

GOOD = {
    "FRAUD_MODE": "production",
    "SECRET_KEY": "p7Rk2-vQ9sLd0aWzXb4TnYc6Hj1MfGe8uKi3-rT5wQ8-mN2bV-8xYz",
    "ENTITY_KEY": "Zx9-Qw8eRt7yUi6oPa5sDf4gHj3kLz2xCv1b-Lk4jH7-fD3sA-1cVb",
    "DATABASE_URL": "postgresql://desk:p%40ss@db.internal:6543/fraud?sslmode=require",
    "VALKEY_URL": "redis://:secret@valkey.internal:6379/0",
    "ALLOWED_HOSTS": "desk.bank.example",
    "PATH": os.environ["PATH"],
}
SHOW = (
    "import json; from fraudsite import settings as s; print(json.dumps({n: getattr(s, n) for n in %r}, default=str))"
)


def start(*names: str, **changes: str | None) -> subprocess.CompletedProcess[str]:
    """Read the settings in a fresh process, environment GOOD with `changes`; prints the named settings as JSON."""
    environment = {name: value for name, value in {**GOOD, **changes}.items() if value is not None}
    command = [sys.executable, "-c", SHOW % (names,)]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"SECRET_KEY": None}, r"SECRET_KEY is not set"),
        ({"SECRET_KEY": "short"}, r"SECRET_KEY must be a random text of at least 50"),
        ({"ENTITY_KEY": "change-me-change-me-change-me-change-me-change-me-now"}, r"ENTITY_KEY must be a random text"),
        ({"SECRET_KEY": None, "SECRET_KEY_FILE": "/nonexistent/key"}, r"SECRET_KEY_FILE names /nonexistent/key"),
        ({"ALLOWED_HOSTS": None}, r"ALLOWED_HOSTS is not set"),
        ({"ALLOWED_HOSTS": "*"}, r"ALLOWED_HOSTS must name the hosts"),
        ({"DEBUG": "true"}, r"DEBUG must be off"),
        ({"DEBUG": "perhaps"}, r"DEBUG must be true or false, not 'perhaps'"),
        ({"DATABASE_URL": None}, r"DATABASE_URL is not set"),
        ({"DATABASE_URL": "sqlite:///x"}, r"DATABASE_URL must look like"),
        ({"DATABASE_URL": "postgresql://a:b@host:port/name"}, r"port that is not a number"),
        ({"VALKEY_URL": None}, r"VALKEY_URL \(or REDIS_URL\) is not set"),
        ({"VALKEY_URL": "http://valkey"}, r"VALKEY_URL must look like"),
        ({"HSTS_SECONDS": "a year"}, r"HSTS_SECONDS must be a whole number, not 'a year'"),
        ({"SESSION_SECONDS": "1"}, r"SESSION_SECONDS must lie between 300"),
        ({"LOG_LEVEL": "LOUD"}, r"LOG_LEVEL must be one of"),
        ({"FRAUD_MODE": "test"}, r"FRAUD_MODE must be one of demo, production"),
    ],
)
def test_a_bad_value_stops_the_start_with_one_sentence(changes: dict[str, str | None], sentence: str) -> None:
    done = start(**changes)
    assert done.returncode == 1
    assert re.fullmatch(rf"Settings: .*{sentence}.*\n", done.stderr), done.stderr


def test_good_values_start_and_secrets_may_come_from_files(tmp_path: Path) -> None:
    secret = tmp_path / "key"
    secret.write_text("a-secret-from-a-file-0123456789-abcdefghijklmnopqrstuvw\n")
    names = ("SECRET_KEY", "DATABASES", "SESSION_COOKIE_NAME", "SECURE_SSL_REDIRECT", "CSRF_TRUSTED_ORIGINS")
    done = start(*names, SECRET_KEY=None, SECRET_KEY_FILE=str(secret))
    assert done.returncode == 0, done.stderr
    assert '"a-secret-from-a-file-0123456789-abcdefghijklmnopqrstuvw"' in done.stdout
    assert '"PASSWORD": "p@ss", "HOST": "db.internal", "PORT": "6543"' in done.stdout
    assert '"sslmode": "require"' in done.stdout
    assert (
        '"__Host-session", "SECURE_SSL_REDIRECT": true, "CSRF_TRUSTED_ORIGINS": ["https://desk.bank.example"]'
        in done.stdout
    )


def test_redis_url_serves_where_valkey_url_is_missing() -> None:
    done = start("VALKEY_URL", VALKEY_URL=None, REDIS_URL="redis://cache:6379/1")
    assert '"redis://cache:6379/1"' in done.stdout


def test_the_demo_makes_its_own_secrets_once(tmp_path: Path) -> None:
    changes = {"FRAUD_MODE": "demo", "SECRET_KEY": None, "ENTITY_KEY": None, "ALLOWED_HOSTS": None}
    first = start("SECRET_KEY", "ENTITY_KEY", FRAUD_STATE=str(tmp_path / "state"), **changes)
    second = start("SECRET_KEY", "ENTITY_KEY", FRAUD_STATE=str(tmp_path / "state"), **changes)
    other = start("SECRET_KEY", "ENTITY_KEY", FRAUD_STATE=str(tmp_path / "other"), **changes)
    assert first.stdout == second.stdout != other.stdout
    assert (tmp_path / "state" / "secrets.json").stat().st_mode & 0o777 == 0o600


def test_production_passes_the_deployment_check() -> None:
    command = [sys.executable, "-m", "django", "check", "--deploy", "--fail-level", "WARNING"]
    environment = {**GOOD, "DJANGO_SETTINGS_MODULE": "fraudsite.settings"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_variable_is_explained_in_the_example() -> None:
    read = set()
    for path in [*ROOT.glob("fraudsite/*.py"), ROOT / "manage.py"]:
        text = path.read_text()
        read |= set(re.findall(r"(?:env_\w+|_choice)\(\"([A-Z_]+)\"", text))
        read |= set(re.findall(r"environ(?:\.get|\.setdefault)?[\(\[]\"([A-Z_]+)\"", text))
    explained = set(re.findall(r"^([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    own = {"DJANGO_SETTINGS_MODULE", "DATABASE_URL_FILE", "REDIS_URL"}
    assert read - own <= explained


def test_no_page_may_load_anything_from_elsewhere() -> None:
    directives = settings.CONTENT_SECURITY_POLICY["DIRECTIVES"]
    assert directives["script-src"] == directives["style-src"] == ["'self'"]
    assert not any("unsafe" in value for values in directives.values() for value in values)


def test_a_worker_keeps_its_connection_from_task_to_task_and_mends_a_broken_one(transactional_db: None):
    fixup = DjangoWorkerFixup(app)
    connection.ensure_connection()
    kept = connection.connection
    fixup.on_task_postrun(sender=SimpleNamespace(request=SimpleNamespace(is_eager=False)))
    look_at_connections()
    assert connection.connection is kept
    with pytest.raises(OperationalError), connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    look_at_connections()
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    assert connection.connection is not kept
