"""What must hold between settings; each alone is checked where it is declared. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from appliance.settings import Settings
    from appliance.settings_text import KeyPath

__all__ = ["find_problem"]

PORT_MAX = 65_535
_PLAIN_HTTP_REFUSED = (
    "{} would serve plain HTTP to the network: set tls_certificate and tls_key, "
    "or allow_plain_http = true behind a proxy that speaks TLS"
)


def find_problem(settings: Settings) -> tuple[KeyPath, str] | None:
    """The first rule that the settings break, as the key to blame and the reason; None if none."""
    for rule in (_iter_s3, _iter_admin, _iter_metrics, _iter_catalog, _iter_volumes):
        problem = next(rule(settings), None)
        if problem is not None:
            return problem
    return None


def _iter_pairs(
    section: str, certificate: Path | None, key: Path | None
) -> Iterator[tuple[KeyPath, str]]:
    if certificate is None and key is not None:
        yield (section, "tls_key"), "needs tls_certificate beside it"
    if certificate is not None and key is None:
        yield (section, "tls_certificate"), "needs tls_key beside it"


def _iter_s3(settings: Settings) -> Iterator[tuple[KeyPath, str]]:
    s3 = settings.s3
    if not s3.listen:
        yield ("s3", "listen"), "at least one address"
    yield from _iter_pairs("s3", s3.tls_certificate, s3.tls_key)
    if s3.tls_certificate is None and not s3.allow_plain_http:
        for address in s3.listen:
            if not address.is_loopback:
                yield ("s3", "listen"), _PLAIN_HTTP_REFUSED.format(address)
    if s3.connections_per_address_max > s3.connections_max:
        yield ("s3", "connections_per_address_max"), "more than connections_max"
    if s3.upload_bytes_max > s3.object_bytes_max:
        yield ("s3", "upload_bytes_max"), "more than object_bytes_max"


def _iter_admin(settings: Settings) -> Iterator[tuple[KeyPath, str]]:
    admin = settings.admin
    yield from _iter_pairs("admin", admin.tls_certificate, admin.tls_key)
    if admin.listen and admin.tls_certificate is None:
        yield ("admin", "listen"), "needs tls_certificate and tls_key"
    if admin.listen and admin.token_file is None:
        yield ("admin", "listen"), "needs token_file"


def _iter_metrics(settings: Settings) -> Iterator[tuple[KeyPath, str]]:
    metrics = settings.metrics
    for address in metrics.listen:
        if address.port and address.port + settings.appliance.workers > PORT_MAX + 1:
            yield ("metrics", "listen"), f"{address}: each worker takes the next port after it"
        if not address.is_loopback and metrics.token_file is None:
            yield ("metrics", "listen"), f"{address} is open to the network: set token_file"


def _iter_catalog(settings: Settings) -> Iterator[tuple[KeyPath, str]]:
    url = settings.catalog.url
    if url.startswith("sqlite:") and "?" in url:
        # In a URL a question mark begins the driver's options: the path would be cut there.
        yield ("catalog", "url"), "the path must not contain a question mark"


def _iter_volumes(settings: Settings) -> Iterator[tuple[KeyPath, str]]:
    if not settings.volumes:
        yield ("volume",), "at least one [[volume]] is needed"
    paths: set[Path] = set()
    names: set[str] = set()
    for index, volume in enumerate(settings.volumes):
        if volume.path in paths:
            yield ("volume", index, "path"), f"{volume.path} is named twice"
        if volume.name in names:
            yield ("volume", index, "name"), f"{volume.name!r} is taken: give each volume a name"
        paths.add(volume.path)
        names.add(volume.name)
