"""Records of a request's way through the server: frozen to the type checker, cheap to make.

A frozen dataclass sets each field by a call of its own, which for the dozen records of one small
request costs more than its signature. Here mypy refuses an assignment as it does for
`dataclass(frozen=True)`, and the class itself is a plain one with slots. For records that are
made for every request; whatever is kept for longer stays a frozen dataclass.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

__all__ = ["record"]

_Record = TypeVar("_Record")


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field,))
def record(kind: type[_Record]) -> type[_Record]:
    """A class decorator: see the module. Equal and hashed by its fields, which are keyword-only."""
    return dataclass(slots=True, kw_only=True, unsafe_hash=True)(kind)
