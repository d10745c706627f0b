"""Room for the ids to come: partitions are cut by id range, ahead of the sequence, never by time of arrival. And what
is appended to the index by merchant, sorted in.

Partitions of a table have one width, so that the n-th one starts at n × width. `decision` is cut at the same payments:
its ids are the payment's times 64.
"""

from __future__ import annotations

import logging

import psycopg2.errors
from django.db import ProgrammingError, connection

log = logging.getLogger(__name__)

WIDTH = 16_777_216  # payments in one partition
AHEAD = WIDTH  # there is always room for this many more
TABLES = {"transaction": 1, "transaction_detail": 1, "decision": 64}  # ids for each payment


def extend() -> int:
    """Cut what is missing up to `AHEAD` payments past the sequence; the number of new partitions. Safe to repeat."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT last_value FROM transaction_id_seq")
        upto = cursor.fetchone()[0] + AHEAD
        made = 0
        for table, ids in TABLES.items():
            cursor.execute("SELECT extend_partitions(%s, %s, %s)", [table, WIDTH * ids, upto * ids])
            made += cursor.fetchone()[0]
    return made


def sort_in() -> int:
    """Sort what was appended to the index by merchant into it; pages sorted in. Safe to repeat.

    Otherwise the ingest does, at every megabyte, and whoever asks for a merchant reads through what is appended. Only
    the index's owner may; if that is somebody else, autovacuum and the ingest are left to do it.
    """
    with connection.cursor() as cursor:
        try:
            cursor.execute(
                "SELECT coalesce(sum(gin_clean_pending_list(inhrelid)), 0) FROM pg_inherits"
                " WHERE inhparent = 'transaction_of_merchant'::regclass"
            )
        except ProgrammingError as error:
            if not isinstance(error.__cause__, psycopg2.errors.InsufficientPrivilege):
                raise
            log.info("the index by merchant is left to autovacuum: %s", str(error).strip())
            return 0
        return int(cursor.fetchone()[0])
