"""Who works here."""

from __future__ import annotations

from django.contrib.auth.models import AbstractUser
from django.db import models


class User(AbstractUser):
    """A person with a log-in. Our own from the first migration, so that it can grow."""

    time_zone = models.CharField(max_length=40, default="UTC")

    @property
    def initials(self) -> str:
        """Two letters for the avatar."""
        names = [self.first_name, self.last_name] if self.first_name else [self.username]
        return "".join(name[:1] for name in names if name).upper()[:2]
