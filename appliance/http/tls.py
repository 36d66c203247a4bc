"""TLS of the server side: version 1.2 or later, HTTP/1.1 only."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["TlsFiles", "build_tls_context"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """A certificate chain and its key, both PEM."""

    certificate_path: Path
    key_path: Path


def build_tls_context(files: TlsFiles) -> ssl.SSLContext:
    """A server context from the files as they are now.

    Raises:
        OSError: A file cannot be read.
        ssl.SSLError: The files are no certificate and matching key.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(files.certificate_path, files.key_path)
    return context
