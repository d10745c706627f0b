"""The Celery application, and the scorer: a worker process that owns one lane for as long as it lives.

Three kinds of process run from here: `worker` (queue `default`: everything that may wait), `beat` (the clock) and one
`scorer` per lane (queue `lane.<id>`, FRAUD_LANE=<id>). A scorer runs its lane in a thread of its own, started at
`worker_init`: the lane must judge even when the broker is gone, and the doorbell's task then finds the lane taken.
A second scorer of a lane stands by with everything loaded but the profiles: most of a cold start is imports.
"""

import logging
import os
import threading
import time

from celery import Celery
from celery.signals import (
    setup_logging,
    task_prerun,
    worker_init,
    worker_process_init,
    worker_shutdown,
    worker_shutting_down,
)
from django.conf import settings

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fraudsite.settings")

log = logging.getLogger("fraudsite.scorer")

app = Celery("fraudsite")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
app.autodiscover_tasks(related_name="training_tasks")
app.set_default()

BACK_OFF_SECONDS = (0.5, 1, 2, 5, 10)  # after an error
STOP_SECONDS = 6.0  # for the lane's last claim and its snapshot
_stop = threading.Event()
_lanes: dict[int, threading.Thread] = {}


@setup_logging.connect
def configure_logging(**kwargs: object) -> None:
    """Keep Celery from laying its own log handlers over ours."""
    import logging.config

    logging.config.dictConfig(settings.LOGGING)


@worker_init.connect
def start_lane(**kwargs: object) -> None:
    """In a scorer, run the lane beside the worker; in any other worker, nothing."""
    lane = os.environ.get("FRAUD_LANE")
    if lane:
        thread = threading.Thread(target=_run_lane, args=(int(lane),), name=f"lane-{lane}", daemon=True)
        _lanes[int(lane)] = thread
        thread.start()


def runs_here(lane_id: int) -> bool:
    """Whether this process runs the lane, or stands by to, in a thread of its own."""
    return lane_id in _lanes


@worker_process_init.connect
def forget_connections(**kwargs: object) -> None:
    """A forked pool process must not share its parent's database connection."""
    from django.db import connections

    connections.close_all()


@task_prerun.connect
def look_at_connections(**kwargs: object) -> None:
    """Before a task as before a request: a connection that is old is closed, one that broke is found before it is used.

    Celery itself would close it after each task (CELERY_DB_REUSE_MAX stands for that), and a new one costs Postgres a
    process, a proof of the password and a page fault for each page it touches: four a second while alerts come.
    """
    from django.db import close_old_connections

    close_old_connections()


@worker_shutting_down.connect
def stop_lane(**kwargs: object) -> None:
    """Let the lane end between two claims."""
    _stop.set()


@worker_shutdown.connect
def wait_for_lane(**kwargs: object) -> None:
    """Give the lane a moment to write its snapshot and give up its lock in good order."""
    for thread in _lanes.values():
        thread.join(STOP_SECONDS)


def _run_lane(lane_id: int) -> None:
    """Own the lane until shutdown; whatever ends it (a lost session, a rebuilt server) is met by starting again.

    A lane that somebody else owns is no failure: this scorer stands by, and takes over as soon as the owner has gone.
    """
    from fraudsite import pipeline
    from scoring.lanes import stand_by

    failures = 0
    while not _stop.is_set():
        started = time.monotonic()
        try:
            pipeline.run(lane_id, until=_stop)
            stand_by(lane_id, _stop)  # now and then back to `run`, which keeps model and rules warm
            failures, pause = 0, 0.0
        except Exception:  # the lane's last line of defence: log, wait, own it again
            log.exception("lane %s stopped", lane_id)
            failures = 0 if time.monotonic() - started > 60 else failures + 1
            pause = BACK_OFF_SECONDS[min(failures, len(BACK_OFF_SECONDS) - 1)]
        _stop.wait(pause)
