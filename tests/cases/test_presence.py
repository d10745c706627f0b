"""Who looks at a case is seen by the others for a moment, and by nothing else."""

import time

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from cases import presence
from tests.factories import WORK, make_user


@pytest.fixture
def ines(db):
    return make_user("ines", *WORK, first_name="Ines", last_name="V.")


@pytest.fixture
def tomas(db):
    return make_user("tomas", *WORK, first_name="Tomas", last_name="K.")


def test_people_see_each_other_and_not_themselves(ines, tomas):
    assert presence.look(501, ines) == []
    assert [person.name for person in presence.look(501, tomas)] == ["Ines V."]
    assert [person.name for person in presence.look(501, ines)] == ["Tomas K."]
    assert presence.look(502, ines) == []


def test_a_person_who_says_nothing_is_forgotten(ines, tomas, monkeypatch):
    presence.look(503, ines)
    later = time.time() + presence.SECONDS + 1
    monkeypatch.setattr("cases.presence.time.time", lambda: later)
    assert presence.look(503, tomas) == []


def test_whoever_leaves_is_gone_at_once(ines, tomas):
    presence.look(504, ines)
    presence.leave(504, ines)
    assert presence.look(504, tomas) == []


def test_a_look_expires_by_itself(ines):
    presence.look(505, ines)
    assert 0 < presence._valkey().ttl("presence:505") <= presence.SECONDS


def test_without_valkey_nobody_is_seen_and_nothing_breaks(ines, monkeypatch):
    nowhere = redis.Redis(host="127.0.0.1", port=1, socket_connect_timeout=0.1, retry=Retry(NoBackoff(), 0))
    monkeypatch.setattr("cases.presence._valkey", lambda: nowhere)
    assert presence.look(506, ines) == []
    presence.leave(506, ines)
