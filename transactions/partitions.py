"""Room for the ids to come: partitions are cut by id range, ahead of the sequence, never by time of arrival.

Partitions of a table have one width, so that the n-th one starts at n × width. `decision` is cut at the same payments:
its ids are the payment's times 64.
"""

from __future__ import annotations

from django.db import connection

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
