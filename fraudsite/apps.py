"""Ties the floors together at start-up: the one bell to the lanes, and the API's answers to the pipeline."""

from __future__ import annotations

import logging
from typing import Any

from django.apps import AppConfig
from django.contrib.admin.apps import AdminConfig

log = logging.getLogger(__name__)


class DeskAdminConfig(AdminConfig):
    """Django admin on the desk's own site."""

    default = False
    default_site = "fraudsite.site.DeskSite"


class FraudsiteConfig(AppConfig):
    """The house itself: wiring over all apps."""

    name = "fraudsite"
    verbose_name = "People"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Hang the upper floors' functions into the lower ones."""
        from django.contrib.auth.signals import user_logged_in, user_logged_out

        from cases.querysets import kept_from
        from fraudsite import answering, sessions
        from scoring.screening import asked
        from transactions import answers, withheld
        from transactions.signals import rang

        answers.provide(judge_now=answering.judge_now, find=answering.find, count=answering.count)
        withheld.ask(kept_from)
        rang.connect(pass_on, dispatch_uid="fraudsite.pass_on")
        user_logged_in.connect(sessions.began, dispatch_uid="fraudsite.session_began")
        user_logged_out.connect(sessions.ended, dispatch_uid="fraudsite.session_ended")
        asked.connect(wake_rescreening, dispatch_uid="fraudsite.wake_rescreening")


def pass_on(*, lane_id: int, first_id: int, last_id: int, kind: str = "payments", **kwargs: Any) -> None:
    """Tell the lane which rows were committed; wake a scorer if it has no owner. Lost rings are found by the sweep."""
    from fraudsite import doorbell
    from transactions import ring

    try:
        if not ring.push_range(lane_id, first_id, last_id, kind=kind):
            doorbell.ring("scoring.run_lane", lane_id, queue=f"lane.{lane_id}")
    except ring.RingGone as error:
        log.info("nobody was told of %s to %s: %s", first_id, last_id, error)


def wake_rescreening(**kwargs: Any) -> None:
    """Have a worker look for re-screenings soon; the clock would find them too."""
    from fraudsite import doorbell

    doorbell.ring("scoring.rescreen")
