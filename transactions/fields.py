"""Model fields that store a fact fixed-width and show it to people as text."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.db import models

from transactions import codes
from transactions.codes import CodeTable


class CodeField(models.SmallIntegerField):
    """A small integer out of a `CodeTable`, seen from Python as its text ("" = not sent)."""

    def __init__(self, table: str, *args: Any, **kwargs: Any):
        self.table_name = table
        kwargs.setdefault("default", "")
        kwargs.setdefault("blank", True)
        super().__init__(*args, **kwargs)

    @property
    def table(self) -> CodeTable:
        return getattr(codes, self.table_name)

    def deconstruct(self):
        name, path, args, kwargs = super().deconstruct()
        return name, path, [self.table_name, *args], kwargs

    def from_db_value(self, value, expression, connection):
        return None if value is None else self.table.text(value)

    def to_python(self, value):
        if value is None or (isinstance(value, str) and (value == "" or value in self.table)):
            return value
        try:
            return self.table.text(int(value))
        except (TypeError, ValueError):
            raise ValidationError(f"“{value}” is not a {self.table.name}.") from None

    def get_prep_value(self, value):
        if value is None or isinstance(value, int):
            return value
        if not isinstance(value, str):
            return super().get_prep_value(value)
        try:
            return self.table.code(value)
        except KeyError:
            raise ValidationError(f"“{value}” is not a {self.table.name}.") from None

    @property
    def validators(self):
        """None of the integer's range checks: Python sees text here."""
        return []
