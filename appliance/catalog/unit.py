"""The one name of the database layer that code outside this package needs: a unit's first argument.

A unit is a plain function of a `Connection`. Others name the type in their own units and hand it on
to the functions of this package; they execute nothing on it themselves.
"""

from __future__ import annotations

from sqlalchemy import Connection

__all__ = ["Connection"]
