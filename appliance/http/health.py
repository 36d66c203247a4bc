"""Health and metrics: a small ASGI application for a listener of its own.

Says nothing about the machine: no environment, path, version or tenant name. What the metrics say
is for whoever makes them to keep clean.
"""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, Scope

__all__ = ["HealthApplication"]

_TEXT = b"text/plain; charset=utf-8"

# Source: Prometheus documentation, "Exposition formats", text format 0.0.4.
_METRICS_TYPE = b"text/plain; version=0.0.4; charset=utf-8"


class HealthApplication:
    """`/healthz`: the process answers. `/readyz`: it can serve. `/metrics`: numbers.

    Args:
        is_ready: True while requests can be served; cheap, called for every probe.
        render_metrics: The metrics in the text format, bounded in size.
        bearer_token: What `/metrics` must be asked with; None where the listener is loopback.
    """

    def __init__(
        self,
        *,
        is_ready: Callable[[], bool],
        render_metrics: Callable[[], bytes],
        bearer_token: str | None = None,
    ) -> None:
        self._is_ready = is_ready
        self._render_metrics = render_metrics
        self._expected = f"Bearer {bearer_token}".encode() if bearer_token is not None else None

    async def __call__(
        self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> None:
        """Answer one probe; see the ASGI specification."""
        if scope["type"] == "lifespan":
            while (await receive())["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1000, "reason": None})
            return
        given = [value for name, value in scope["headers"] if name.lower() == b"authorization"]
        status, content_type, body = self._answer(scope["method"], scope["raw_path"], given)
        await send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [
                    (b"content-type", content_type),
                    (b"content-length", b"%d" % len(body)),
                    (b"cache-control", b"no-store"),
                ],
            }
        )
        sent_body = b"" if scope["method"] == "HEAD" else body
        await send({"type": "http.response.body", "body": sent_body, "more_body": False})

    def _answer(
        self, method: str, path: bytes, credentials: list[bytes]
    ) -> tuple[int, bytes, bytes]:
        if method not in {"GET", "HEAD"}:
            return 405, _TEXT, b"method not allowed\n"
        if path == b"/healthz":
            return 200, _TEXT, b"ok\n"
        if path == b"/readyz":
            return (200, _TEXT, b"ready\n") if self._is_ready() else (503, _TEXT, b"not ready\n")
        if path == b"/metrics" and not self._is_known(credentials):
            return 401, _TEXT, b"a bearer token is needed\n"
        if path == b"/metrics":
            return 200, _METRICS_TYPE, self._render_metrics()
        return 404, _TEXT, b"not found\n"

    def _is_known(self, credentials: list[bytes]) -> bool:
        if self._expected is None:
            return True
        return len(credentials) == 1 and hmac.compare_digest(credentials[0], self._expected)
