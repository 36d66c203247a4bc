"""The one error of the S3 face; everything else becomes one in `appliance.handlers.faults`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from appliance.s3.codes import S3Code

__all__ = ["S3Error"]


class S3Error(Exception):
    """A refusal in S3's words.

    Attributes:
        code: The row of the error table.
        message: What the client reads; never a secret, a path or an internal name.
        elements: Further XML elements of the error document, such as `Region` or `ArgumentName`.
        headers: Further response headers, such as `retry-after`.
    """

    def __init__(
        self,
        code: S3Code,
        message: str | None = None,
        *,
        elements: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.code = code
        self.message = message if message is not None else code.message
        self.elements = dict(elements or {})
        self.headers = dict(headers or {})
        super().__init__(f"{code.code}: {self.message}")
