"""Every listener of one server process: S3, admin API, health and metrics.

They start together and stop together; the S3 port stops last, since its requests in flight get the
grace and the operator may want to watch it over the others.
"""

from __future__ import annotations

import ssl
from functools import partial
from itertools import repeat
from typing import TYPE_CHECKING

import structlog
import trio

from appliance.http.errors import ListenAddressTaken
from appliance.http.hypercorn_server import HypercornServer, serve_with_hypercorn
from appliance.http.limits import HttpLimits
from appliance.http.listeners import BoundAddress, ListenAddress, UnixAddress
from appliance.http.server import Listen, Server
from appliance.http.tls import TlsFiles
from appliance.objects.pipeline import open_pipeline

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from hypercorn.typing import ASGIFramework

    from appliance.http.early_answer import EarlyAnswers
    from appliance.settings import S3Settings, Settings
    from appliance.worker_place import WorkerPlace

__all__ = ["Servers", "TokenFileInvalid", "limits_of", "load_token"]

ADMIN_RETRY_S = 1.0
TOKEN_CHARS_MIN = 32  # 128 bits even in hexadecimal

_log = structlog.get_logger("servers")


class TokenFileInvalid(Exception):
    """The file of a bearer token cannot be used."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


def load_token(path: Path | None) -> str | None:
    """The bearer token in a file, or None where no file is configured.

    Raises:
        TokenFileInvalid: Unreadable, readable by others, or shorter than `TOKEN_CHARS_MIN`.
    """
    if path is None:
        return None
    try:
        mode = path.stat().st_mode & 0o777
        token = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise TokenFileInvalid(path, str(error)) from error
    if mode & 0o077:
        raise TokenFileInvalid(path, f"has mode {mode:04o}, must be 0600")
    if len(token) < TOKEN_CHARS_MIN:
        raise TokenFileInvalid(path, f"holds {len(token)} of at least {TOKEN_CHARS_MIN} characters")
    return token


def limits_of(settings: S3Settings) -> HttpLimits:
    """The connection loop's limits as the settings have them."""
    return HttpLimits(
        header_section_bytes_max=settings.header_section_bytes,
        header_count_max=settings.header_count_max,
        target_bytes_max=settings.target_bytes_max,
        header_timeout_s=settings.header_timeout_s,
        idle_timeout_s=settings.keep_alive_timeout_s,
        rate_window_s=settings.body_rate_window_s,
        rate_bytes_per_s_min=settings.body_rate_min_bytes_per_s,
        handshake_timeout_s=settings.tls_handshake_timeout_s,
        connections_max=settings.connections_max,
        connections_per_address_max=settings.connections_per_address_max,
        stop_grace_s=settings.shutdown_grace_s,
    )


class Servers:
    """The listeners of one process.

    Args:
        settings: Where to listen.
        s3: The S3 application.
        answers: What the S3 port says without the application.
        health: Health and metrics.
        place: Of this process among others that share the S3 addresses; the ports of health and
            metrics are counted up from the settings' by its slot.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        s3: ASGIFramework,
        answers: EarlyAnswers,
        health: ASGIFramework,
        place: WorkerPlace,
    ) -> None:
        tls = None
        if settings.s3.tls_certificate is not None and settings.s3.tls_key is not None:
            tls = TlsFiles(
                certificate_path=settings.s3.tls_certificate, key_path=settings.s3.tls_key
            )
        self._settings = settings
        self._admin: tuple[ASGIFramework, ASGIFramework | None] | None = None
        self._admin_offered = trio.Event()
        self._waiting = trio.CancelScope()
        self._health = health
        self._place = place
        self._stop = trio.Event()
        listens = [
            Listen(
                address=ListenAddress(host=address.host, port=address.port),
                tls=tls,
                sockets=sockets,
            )
            for address, sockets in zip(
                settings.s3.listen, place.sockets or repeat(()), strict=False
            )
        ]
        limits, may_serve_plain = limits_of(settings.s3), settings.s3.allow_plain_http
        self.s3: Server | HypercornServer
        if settings.s3.server == "hypercorn":
            self.s3 = HypercornServer(
                s3, listens=listens, limits=limits, may_serve_plain=may_serve_plain
            )
            _log.warning("s3_served_by_hypercorn", hint="fewer limits, see docs/OPERATING.md")
        else:
            self.s3 = Server(
                s3,
                listens=listens,
                answers=answers,
                limits=limits,
                may_serve_plain=may_serve_plain,
            )

    async def run(self, on_listening: Callable[[Mapping[str, str]], None]) -> None:
        """Listen everywhere, say where, serve until `request_stop`.

        Args:
            on_listening: Given the addresses really bound by listener, several joined by commas:
                `s3` as `http://127.0.0.1:9000`, `admin` as `unix:/run/t.sock`, `metrics`.

        Raises:
            HttpError: An address is taken or may not be served.
        """
        async with open_pipeline() as others:
            admin: list[str] = []
            if self._admin_offered.is_set():
                admin = await self._start_admin(others)
            else:
                others.start_soon(self._start_admin_later, others)
            metrics = [
                await self._start(
                    others,
                    self._health,
                    ListenAddress(
                        host=address.host, port=address.port and address.port + self._place.slot
                    ),
                )
                for address in self._settings.metrics.listen
            ]
            async with open_pipeline() as main:
                bound: Sequence[BoundAddress] = await main.start(self.s3.serve)
                listeners = {"s3": ",".join(address.url for address in bound)}
                if admin:
                    listeners["admin"] = ",".join(admin)
                if metrics:
                    listeners["metrics"] = ",".join(_url(address) for address in metrics)
                on_listening(listeners)
            self._stop.set()
            self._waiting.cancel()

    def offer_admin(self, admin: ASGIFramework, *, remote: ASGIFramework | None) -> None:
        """Serve the admin API as well, from now on or from `run` on. Called at most once.

        Args:
            admin: For its Unix socket.
            remote: The same behind a bearer token, for TCP; None where none is configured.
        """
        self._admin = admin, remote
        self._admin_offered.set()

    def request_stop(self) -> None:
        """Stop the S3 port gracefully, and the others after it."""
        self.s3.request_stop()

    def reload_certificates(self) -> None:
        """Read the S3 port's certificate again; a bad one is logged and the old one stays."""
        try:
            self.s3.reload_certificates()
        except (OSError, ssl.SSLError) as error:
            _log.error("certificate_reload_failed", error=str(error))
        else:
            _log.info("certificate_reloaded")

    async def _start(
        self,
        nursery: trio.Nursery,
        app: ASGIFramework,
        address: ListenAddress | UnixAddress,
        tls: TlsFiles | None = None,
    ) -> BoundAddress | UnixAddress:
        bound: BoundAddress | UnixAddress = await nursery.start(
            partial(serve_with_hypercorn, app, address=address, shutdown=self._stop, tls=tls)
        )
        return bound

    async def _start_admin_later(self, nursery: trio.Nursery) -> None:
        """Once it is offered, and whoever served it before has let go of its addresses."""
        with self._waiting:
            await self._admin_offered.wait()
            while True:
                try:
                    where = await self._start_admin(nursery)
                except ListenAddressTaken as error:
                    _log.warning("admin_address_taken", error=str(error))
                else:
                    _log.info("admin_began", listeners=where)
                    return
                await trio.sleep(ADMIN_RETRY_S)

    async def _start_admin(self, nursery: trio.Nursery) -> list[str]:
        assert self._admin is not None
        admin, remote = self._admin
        settings = self._settings.admin
        where = [str(await self._start(nursery, admin, UnixAddress(path=settings.socket)))]
        if remote is None:
            return where
        assert settings.tls_certificate is not None, "the settings demand TLS for remote admin"
        assert settings.tls_key is not None
        tls = TlsFiles(certificate_path=settings.tls_certificate, key_path=settings.tls_key)
        for address in settings.listen:
            there = ListenAddress(host=address.host, port=address.port)
            where.append(_url(await self._start(nursery, remote, there, tls)))
        return where


def _url(address: BoundAddress | UnixAddress) -> str:
    return address.url if isinstance(address, BoundAddress) else str(address)
