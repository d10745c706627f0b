"""Model fields that store a fact fixed-width and show it to people as text."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models.expressions import Col
from django.utils.functional import cached_property

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


class _DocumentCol(Col):
    """The column read as what it holds, so that paths into the document work in queries."""

    def as_sql(self, compiler, connection):
        sql, params = super().as_sql(compiler, connection)
        return f"{sql}::jsonb", params


class DocumentField(models.JSONField):
    """A JSON document that is written far more often than read: stored as its text, parsed when somebody asks.

    Taking a payment's document apart at ingest would cost Postgres as much as storing its facts.
    """

    def db_type(self, connection):
        return "text"

    def get_col(self, alias, output_field=None):
        return _DocumentCol(alias, self, output_field or self)

    @cached_property
    def cached_col(self):
        return _DocumentCol(self.model._meta.db_table, self)
