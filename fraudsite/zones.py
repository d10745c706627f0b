"""Times are shown in the reader's own zone: the person's chosen one, else the one the browser names in a cookie."""

from collections.abc import Callable
from zoneinfo import ZoneInfo, available_timezones

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from cases import preferences

COOKIE = "desk_zone"


class ReaderZone:
    """Middleware for the desk's pages; stands after the authentication middleware."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if not request.path.startswith("/desk/"):
            return self.get_response(request)
        with timezone.override(reader_zone(request)):
            return self.get_response(request)


def reader_zone(request: HttpRequest) -> ZoneInfo | None:
    """The zone the person chose, else their record's (not the site's default), else the browser's; None: the site's."""
    chosen = preferences.of(request.user).time_zone
    given = getattr(request.user, "time_zone", settings.TIME_ZONE)
    for name in (chosen, given if given != settings.TIME_ZONE else "", request.COOKIES.get(COOKIE, "")):
        if name in available_timezones():
            return ZoneInfo(name)
    return None
