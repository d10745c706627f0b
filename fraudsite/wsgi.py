"""API and desk for the web server. Everything slow at first touch is touched before the process reports ready."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fraudsite.settings")

application = get_wsgi_application()


def warm_up() -> None:
    """Load the URL map (all views, the kernel's compiled code) now instead of in the first request."""
    from django.urls import get_resolver

    _ = get_resolver().url_patterns


warm_up()
