"""Flyte's list requests (scope, filters, sorting, pages) as SQL. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from flyteidl2.common.list_pb2 import Filter, Sort

from flyte_build.backend.refused import Refused

if TYPE_CHECKING:
    from flyteidl2.common.list_pb2 import ListRequest

_DEFAULT_LIMIT = 100
_TIME_COLUMNS = frozenset({"created_at", "updated_at", "deployed_at"})
_TEMPLATES: Mapping[Filter.Function, str] = {
    Filter.EQUAL: "{column} = ?",
    Filter.NOT_EQUAL: "{column} <> ?",
    Filter.GREATER_THAN: "{column} > ?",
    Filter.GREATER_THAN_OR_EQUAL: "{column} >= ?",
    Filter.LESS_THAN: "{column} < ?",
    Filter.LESS_THAN_OR_EQUAL: "{column} <= ?",
    Filter.CONTAINS: "instr({column}, ?) > 0",
    Filter.CONTAINS_CASE_INSENSITIVE: "instr(lower({column}), lower(?)) > 0",
    Filter.ENDS_WITH: "{column} LIKE '%' || ?",
    Filter.VALUE_IN: "{column} IN ({marks})",
    Filter.VALUE_NOT_IN: "{column} NOT IN ({marks})",
}
_MANY_VALUES = (Filter.VALUE_IN, Filter.VALUE_NOT_IN)


@dataclass(frozen=True)
class Clause:
    """A condition and the values of its question marks."""

    sql: str
    values: tuple[str | int, ...] = ()


@dataclass(frozen=True)
class Page:
    """`limit` rows from `offset` on, in the order of `order_by`."""

    order_by: str
    limit: int
    offset: int

    @property
    def sql(self) -> str:
        """One row more than the page holds, to know whether there is a next one."""
        return f"ORDER BY {self.order_by} LIMIT {self.limit + 1} OFFSET {self.offset}"

    def next_token(self, rows: int) -> str:
        """The token of the page after this one; empty at the end. `rows`: how many `sql` gave."""
        return str(self.offset + self.limit) if rows > self.limit else ""


def page_of(request: ListRequest, *, columns: Mapping[str, str], default: str) -> Page:
    """The page that a request asks for. `columns`: from Flyte's names of fields to columns.

    Raises:
        Refused: `invalid_argument`, for an unknown field or a token that is not ours.
    """
    sorts = list(request.sort_by_fields) or [request.sort_by]
    parts = [f"{_column(sort.key, columns)} {_direction(sort)}" for sort in sorts if sort.key]
    if request.token and not request.token.isdecimal():
        raise Refused("invalid_argument", f"request.token: `{request.token}` is not a token of this control plane")
    return Page(", ".join([*parts, default]), request.limit or _DEFAULT_LIMIT, int(request.token or 0))


def filters_of(request: ListRequest, columns: Mapping[str, str]) -> list[Clause]:
    """The conditions of a request's filters.

    Raises:
        Refused: `invalid_argument`, for an unknown field or function.
    """
    return [_filter_clause(each, columns) for each in request.filters]


def scope_of(**wanted: str) -> list[Clause]:
    """`column = value` for each one that is named; an empty one leaves the column open."""
    return [Clause(f"{column} = ?", (value,)) for column, value in wanted.items() if value]


def where(clauses: Iterable[Clause]) -> Clause:
    """All of them, as one `WHERE`."""
    clauses = list(clauses)
    sql = " AND ".join(clause.sql for clause in clauses) or "1"
    return Clause(f"WHERE {sql}", tuple(value for clause in clauses for value in clause.values))


def _filter_clause(each: Filter, columns: Mapping[str, str]) -> Clause:
    template = _TEMPLATES.get(each.function)
    if template is None:
        raise Refused("invalid_argument", f"request.filters: {Filter.Function.Name(each.function)} is not supported")
    if not each.values:
        raise Refused("invalid_argument", f"request.filters: `{each.field}` has no value")
    column = _column(each.field, columns)
    values = tuple(
        _value(value, column) for value in (each.values if each.function in _MANY_VALUES else each.values[:1])
    )
    return Clause(template.format(column=column, marks=", ".join("?" * len(values))), values)


def _column(field: str, columns: Mapping[str, str]) -> str:
    if field not in columns:
        raise Refused(
            "invalid_argument", f"`{field}` is not a field to filter or sort by; there are {', '.join(columns)}"
        )
    return columns[field]


def _direction(sort: Sort) -> str:
    return "ASC" if sort.direction == Sort.ASCENDING else "DESC"


def _value(text: str, column: str) -> str | int:
    """Times are compared as microseconds; clients send ISO 8601."""
    if column not in _TIME_COLUMNS:
        return text
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError as error:
        raise Refused("invalid_argument", f"request.filters: `{text}` is not an ISO 8601 time") from error
    aware = moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
    return round(aware.timestamp() * 1_000_000)
