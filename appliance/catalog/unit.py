"""What code outside this package needs to write units: their first argument, and their joint form.

A unit is a plain function of a `Connection`. Others name the type in their own units and hand it on
to the functions of this package; they execute nothing on it themselves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from sqlalchemy import Connection

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

__all__ = ["Connection", "JointUnit"]

T = TypeVar("T")


class JointUnit(Generic[T]):
    """A unit that may be run together with others of its class, in fewer statements.

    Run alone and run jointly mean the same; of units that are committed together the order is the
    committer's to choose.
    """

    __slots__ = ()

    def __call__(self, connection: Connection) -> T:
        """Run the unit alone, as any other."""
        raise NotImplementedError

    @classmethod
    def run_jointly(
        cls, connection: Connection, units: Sequence[Self]
    ) -> Sequence[T | Exception | None]:
        """Run units of one transaction together (SQLite only).

        Returns:
            For each unit in its place: its value; the exception that it would have raised, having
            changed nothing; or None where it is to be run alone.

        Raises:
            DBAPIError: Nothing that was changed may stay; all of them are to be run alone.
        """
        raise NotImplementedError
