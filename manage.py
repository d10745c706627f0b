#!/usr/bin/env python
"""Django's command line with the servers it needs: those of `make run`, else embedded ones for its own duration."""

import os
import sys

# Commands that must work where no server can run.
WITHOUT_SERVERS = {"help", "version", "collectstatic", "compilemessages", "makemessages", "findstatic"}


def main() -> None:
    """Find or start the servers, then run the command."""
    from fraudsite import embedded

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fraudsite.settings")
    embedded.prefer_demo()
    command = sys.argv[1] if len(sys.argv) > 1 else "help"
    try:
        if os.environ["FRAUD_MODE"] == "demo" and command not in WITHOUT_SERVERS:
            embedded.provide()
    except embedded.ServerTrouble as trouble:
        sys.exit(str(trouble))
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
