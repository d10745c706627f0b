"""API and desk for the web server. Everything slow at first touch is touched before the process reports ready."""

import gc
import os

from django.core.wsgi import get_wsgi_application

from fraudsite.machines import MachineHandler, split

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fraudsite.settings")

application = split(get_wsgi_application(), MachineHandler())


def warm_up() -> None:
    """Load the URL map (all views, the kernel's compiled code) now instead of in the first request.

    What is there by then stays for good: the garbage collector need not look at it again and again.
    """
    from django.urls import get_resolver

    _ = get_resolver().url_patterns
    gc.collect()
    gc.freeze()


warm_up()
