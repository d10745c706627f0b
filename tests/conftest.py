"""The servers of the test session: real Postgres and Valkey, thrown away at its end.

Settings are read before fixtures exist, so the servers start while this file is imported. Their keeper process stops
them and removes the folder when this process ends, however it ends. DATABASE_URL and VALKEY_URL, if set, are used
instead.
"""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fraudsite import embedded
from tests import running

os.environ["FRAUD_MODE"] = "demo"
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fraudsite.settings")
STATE = Path(tempfile.mkdtemp(prefix="fraud-desk-tests-"))
(STATE / "static").mkdir()
os.environ["FRAUD_STATE"] = str(STATE)
if not (os.environ.get("DATABASE_URL") and os.environ.get("VALKEY_URL")):
    _servers = embedded.ensure_servers(STATE, throw_away=True)
    os.environ.setdefault("DATABASE_URL", _servers.database_url)
    os.environ.setdefault("VALKEY_URL", _servers.valkey_url)

from django.conf import settings  # noqa: E402  (reads the environment set above)

assert settings.DATABASES  # configured now, so that pytest-django takes them for its own
settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # fast


@pytest.fixture(scope="session", autouse=True)
def _tests_that_commit_are_cleared_quickly() -> None:
    """One TRUNCATE after a test with real commits, of facts too, which Django's flush leaves out (they are unmanaged).

    Flush also makes all permissions anew, a second each time; here content types and permissions just stay.
    """
    from django.db import connection
    from django.test import TransactionTestCase

    kept = {"django_migrations", "django_content_type", "auth_permission"}

    def clear(self: TransactionTestCase) -> None:
        with connection.cursor() as cursor:
            tables = connection.introspection.get_table_list(cursor)
            names = {table.name for table in tables if table.type in "tp"} - kept
            cursor.execute("TRUNCATE " + ", ".join(f'"{name}"' for name in sorted(names)))

    TransactionTestCase._fixture_teardown = clear


@pytest.fixture(scope="session")
def running_desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[running.RunningDesk]:
    """The whole desk as `make run` starts it, without traffic, once for all tests that need it (about a minute).

    DESK_STATE, if set, is the folder of one that runs already, which is used and left running.
    """
    if os.environ.get("DESK_STATE"):
        yield running.RunningDesk(Path(os.environ["DESK_STATE"]), Path(os.devnull))
        return
    desk = running.start(tmp_path_factory.mktemp("a whole desk") / "state")
    yield desk
    desk.stop()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the servers; the keeper removes the folder."""
    embedded.release(STATE)
    embedded.wait_until_stopped(STATE)
    embedded.forget(STATE)
