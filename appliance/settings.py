"""Every setting of the appliance: its type, default, bounds and meaning, in frozen records.

One record per section of `thermocline.toml`; `appliance.settings_file` reads that file and the
environment into them, `appliance.settings_text` documents and writes them. Here are no files, no
environment and no clock. The declaration is the only place a setting is described: the annotation's
`description` goes into the README's table and into a new settings file.

Names carry their unit: `_s` seconds, `_bytes` bytes. A size may be written as `"8KiB"`, a duration
as `"30s"`, wherever a number may. A path or URL that begins with `<data>` lies in `appliance.data`;
any other relative path starts at the settings file's directory.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from appliance.setting_types import (
    Address,
    Addresses,
    KeepFree,
    KeepFreeText,
    PathText,
    Seconds,
    Size,
    Words,
    parse_network,
)
from appliance.worker_place import WORKERS_MAX

__all__ = [
    "DATA_PLACEHOLDER",
    "SECTIONS",
    "AccessSampleSettings",
    "AdminSettings",
    "ApplianceSettings",
    "CatalogSettings",
    "HeatSettings",
    "LogSettings",
    "MemorySettings",
    "MetricsSettings",
    "ReclaimSettings",
    "RecoverySettings",
    "S3Settings",
    "ScrubSettings",
    "SecretsSettings",
    "Settings",
    "TenantsSettings",
    "UploadsSettings",
    "VolumeSettings",
]

DATA_PLACEHOLDER = "<data>"
REGION = re.compile(r"[a-z0-9-]{1,64}", re.ASCII)

_URL_SCHEMES = ("sqlite:///", "postgresql://", "postgresql+psycopg://")
_KIB = 1_024
_MIB = 1_024 * _KIB
_GIB = 1_024 * _MIB
_KEEP_FREE = KeepFree(is_auto=True)


def _check_domain(value: object) -> object:
    if not isinstance(value, str):
        return value
    domain = value.lower().rstrip(".")
    if re.fullmatch(r"[a-z0-9-]+(\.[a-z0-9-]+)*", domain, re.ASCII) is None:
        raise ValueError("not a host name")
    return domain


def _check_region(value: object) -> object:
    if isinstance(value, str) and REGION.fullmatch(value) is None:
        raise ValueError("1 to 64 lower-case letters, digits and hyphens")
    return value


def _check_url(value: object) -> object:
    if isinstance(value, str) and not value.startswith(_URL_SCHEMES):
        # The value may hold a password and is not repeated here.
        raise ValueError("must begin with sqlite:/// or postgresql://")
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplianceSettings:
    """`[appliance]`."""

    data: Annotated[
        PathText,
        Field(description="Directory of catalog, keys and sockets; mode 0700, one per appliance."),
    ] = Path("/var/lib/thermocline")
    workers: Annotated[
        int,
        Field(
            ge=1,
            le=WORKERS_MAX,
            description="Server processes on one catalog; as many as cores at most.",
        ),
    ] = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Settings:
    """`[s3]`: the listener that clients speak to, and its limits (SECURITY: Limits)."""

    listen: Annotated[
        Addresses, Field(description="Where S3 is served: host:port, or several; port 0 is any.")
    ] = (Address(host="127.0.0.1", port=9000),)
    server: Annotated[
        Literal["own", "hypercorn"],
        Field(
            description="What speaks HTTP there: the own connection loop, or Hypercorn, which keeps"
            " fewer of these limits."
        ),
    ] = "own"
    domains: Annotated[
        Words[Annotated[str, BeforeValidator(_check_domain)]],
        Field(description="Host names under which buckets are addressed as bucket.domain."),
    ] = ()
    region: Annotated[
        str,
        BeforeValidator(_check_region),
        Field(description="The region that clients sign for."),
    ] = "us-east-1"
    tls_certificate: Annotated[
        PathText | None, Field(description="PEM file with certificate and chain; re-read on HUP.")
    ] = None
    tls_key: Annotated[PathText | None, Field(description="PEM file with its private key.")] = None
    allow_plain_http: Annotated[
        bool, Field(description="Serve without TLS on addresses other than loopback.")
    ] = False
    require_signed_payload: Annotated[
        bool, Field(description="Refuse UNSIGNED-PAYLOAD over plain HTTP.")
    ] = False
    trusted_proxies: Annotated[
        Words[Annotated[str, BeforeValidator(parse_network)]],
        Field(description="Networks whose X-Forwarded-For and -Proto are believed."),
    ] = ()
    header_section_bytes: Annotated[
        Size, Field(ge=2 * _KIB, le=_MIB, description="Header lines of one request.")
    ] = 8 * _KIB
    header_count_max: Annotated[
        int, Field(ge=16, le=10_000, description="Headers of one request.")
    ] = 100
    target_bytes_max: Annotated[
        Size, Field(ge=2 * _KIB, le=_MIB, description="Request target (path and query).")
    ] = 8 * _KIB
    upload_bytes_max: Annotated[
        Size, Field(ge=5 * _MIB, le=5 * _GIB, description="Body of one PUT or one part.")
    ] = 5 * _GIB
    object_bytes_max: Annotated[
        Size,
        Field(ge=5 * _MIB, le=50_000 * _GIB, description="A whole object, 10,000 parts of 5 GiB."),
    ] = 50_000 * _GIB
    tls_handshake_timeout_s: Annotated[
        Seconds, Field(gt=0, le=600, description="From connect to the end of the TLS handshake.")
    ] = 10.0
    header_timeout_s: Annotated[
        Seconds, Field(gt=0, le=600, description="From a request's first byte to its last header.")
    ] = 10.0
    body_rate_min_bytes_per_s: Annotated[
        Size, Field(ge=1, le=_GIB, description="Slowest sender of a body and reader of an answer.")
    ] = _KIB
    body_rate_window_s: Annotated[
        Seconds,
        Field(gt=0, le=3_600, description="Waiting time after which that rate is judged."),
    ] = 30.0
    keep_alive_timeout_s: Annotated[
        Seconds, Field(gt=0, le=3_600, description="Idle time between two requests.")
    ] = 75.0  # above what client pools keep (botocore: 60 s)
    connections_max: Annotated[
        int, Field(ge=1, le=1_000_000, description="Open connections in all.")
    ] = 4_096
    connections_per_address_max: Annotated[
        int, Field(ge=1, le=1_000_000, description="Open connections of one client address.")
    ] = 256
    shutdown_grace_s: Annotated[
        Seconds, Field(ge=0, le=3_600, description="For requests in flight when told to stop.")
    ] = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminSettings:
    """`[admin]`: the admin API's listeners."""

    socket: Annotated[PathText, Field(description="Unix socket of the admin API, mode 0600.")] = (
        Path("<data>/admin.sock")
    )
    listen: Annotated[
        Addresses, Field(description="Addresses for it besides; they need TLS and a token.")
    ] = ()
    tls_certificate: Annotated[
        PathText | None, Field(description="PEM file with certificate and chain.")
    ] = None
    tls_key: Annotated[PathText | None, Field(description="PEM file with its private key.")] = None
    token_file: Annotated[
        PathText | None, Field(description="File with the bearer token, mode 0600.")
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsSettings:
    """`[metrics]`: health and Prometheus metrics."""

    listen: Annotated[
        Addresses, Field(description="Where health and metrics are served; [] is nowhere.")
    ] = (Address(host="127.0.0.1", port=9001),)
    token_file: Annotated[
        PathText | None,
        Field(description="File with a bearer token for /metrics; a must beyond loopback."),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogSettings:
    """`[catalog]`: the database."""

    url: Annotated[
        str,
        BeforeValidator(_check_url),
        Field(
            description="The database: sqlite:///path, or postgresql://user:password@host/database."
        ),
    ] = field(default="sqlite:///<data>/catalog.db", repr=False)
    readers: Annotated[
        int, Field(ge=1, le=64, description="Connections that read; writes have one of their own.")
    ] = 4
    copy_interval_s: Annotated[
        Seconds,
        Field(ge=0, le=2_592_000, description="Between two copies on the cold tier; 0 is none."),
    ] = 3_600.0
    copies_kept: Annotated[
        int,
        Field(ge=1, le=1_000, description="Copies that stay: the newest half, then one a day."),
    ] = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeSettings:
    """`[[volume]]`: a directory on a mounted file system that `init` formatted."""

    path: Annotated[PathText, Field(description="The directory.")]
    tier: Annotated[Literal["ssd", "hdd"], Field(description="What it lies on: ssd or hdd.")]
    name: Annotated[
        str,
        Field(
            max_length=64,
            pattern=r"^[A-Za-z0-9_.-]*$",
            description="In reports and metrics; the directory's name where empty.",
        ),
    ] = ""
    io_slots: Annotated[
        int, Field(ge=0, le=1_024, description="Operations at once; 0 is 16 for ssd, 4 for hdd.")
    ] = 0
    allow_buffered: Annotated[
        bool, Field(description="Open it although the file system refuses direct I/O.")
    ] = False
    keep_free: Annotated[
        KeepFreeText,
        Field(
            description='Room never written to: "1GiB", or "5%" of the volume; "auto" is 4%, '
            "32MiB to 1GiB."
        ),
    ] = _KEEP_FREE


@dataclass(frozen=True, slots=True, kw_only=True)
class MemorySettings:
    """`[memory]`."""

    buffer_bytes: Annotated[
        Size, Field(ge=64 * _MIB, description="All page buffers of requests and moves together.")
    ] = 512 * _MIB
    page_cache_bytes: Annotated[
        Size,
        Field(
            ge=0,
            le=1_024 * _GIB,
            description="Pages kept to be read again, bookkeeping included; 0 is none.",
        ),
    ] = 128 * _MIB  # 25,000 objects of 4 KiB; with all buffers out, below a GiB in all


@dataclass(frozen=True, slots=True, kw_only=True)
class ReclaimSettings:
    """`[reclaim]`: how dead pages become free room."""

    grace_s: Annotated[
        Seconds, Field(ge=1, le=604_800, description="From a body's death to its removal.")
    ] = 60.0
    interval_s: Annotated[
        Seconds, Field(ge=0.1, le=86_400, description="Between two looks for dead bodies.")
    ] = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoverySettings:
    """`[recovery]`: what a start after an unclean end reads again before it serves."""

    recheck_bytes: Annotated[
        Size,
        Field(
            ge=0,
            le=100 * _GIB,
            description="Newest bytes of each volume that are verified first; 0 is none.",
        ),
    ] = 256 * _MIB  # DURABILITY 3: finds drives that lie about a flush, in a second or two
    recheck_period_s: Annotated[
        Seconds,
        Field(ge=1, le=86_400, description="How far back from a volume's newest record at most."),
    ] = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ScrubSettings:
    """`[scrub]`: how often everything stored is read and verified."""

    enabled: Annotated[
        bool, Field(description="Verify on a schedule; else only when `scrub start` is called.")
    ] = True
    hot_period_s: Annotated[
        Seconds,
        Field(ge=60, le=315_360_000, description="Within which every page of ssd is verified."),
    ] = 7 * 86_400.0
    cold_period_s: Annotated[
        Seconds,
        Field(ge=60, le=315_360_000, description="Within which every page of hdd is verified."),
    ] = 30 * 86_400.0
    bytes_per_s_max: Annotated[
        Size,
        Field(ge=_MIB, le=100 * _GIB, description="Fastest reading of one volume, periods or not."),
    ] = 64 * _MIB
    busy_bytes_per_s: Annotated[
        Size,
        Field(
            ge=_MIB,
            le=100 * _GIB,
            description="Of a pass begun by hand while requests come, or as the period asks.",
        ),
    ] = 8 * _MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretsSettings:
    """`[secrets]`."""

    key_file: Annotated[
        PathText, Field(description="The key that seals all secrets, mode 0600. Back it up apart.")
    ] = Path("<data>/master.key")


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """`[log]`: one event per line, to standard error."""

    format: Annotated[
        Literal["human", "json"],
        Field(description="How a line is written: human, or json for machines."),
    ] = "human"
    level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Field(description="The least that is written."),
    ] = "info"


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadsSettings:
    """`[uploads]`: multipart uploads in progress."""

    open_max: Annotated[
        int, Field(ge=1, le=10_000_000, description="Uploads in progress per tenant.")
    ] = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantsSettings:
    """`[tenants]`: what a tenant gets that says nothing else."""

    buckets_max: Annotated[
        int, Field(ge=1, le=1_000_000, description="Buckets of a new tenant.")
    ] = 1_000
    requests_per_s_max: Annotated[
        float | None, Field(gt=0, description="Requests a second of one tenant; unset: any.")
    ] = None
    bytes_per_s_max: Annotated[
        Size | None, Field(gt=0, description="Bytes a second in and out of one tenant; unset: any.")
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HeatSettings:
    """`[heat]`: where the server keeps how often pages are read. Losing it costs speed only."""

    directory: Annotated[PathText, Field(description="Directory of its files.")] = Path(
        "<data>/heat"
    )
    checkpoint_interval_s: Annotated[
        Seconds,
        Field(ge=10, le=86_400, description="Between two writings of what has changed."),
    ] = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessSampleSettings:
    """`[access_sample]`: a log of some reads and writes, for `tier simulate`."""

    directory: Annotated[
        PathText | None, Field(description="Directory of the log, a file an hour; unset: none.")
    ] = None
    share: Annotated[
        float, Field(gt=0, le=1, description="Share of the objects whose accesses are written.")
    ] = 1 / 64
    names: Annotated[
        Literal["hashed", "plain"],
        Field(description="How objects and clients are named: hashed under a key, or plain."),
    ] = "hashed"
    bytes_max: Annotated[
        Size,
        Field(ge=_MIB, le=1_024 * _GIB, description="All its files; the oldest are removed."),
    ] = _GIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All of it.

    Attributes:
        source: The file it came from, None where only the environment spoke.
    """

    appliance: ApplianceSettings = ApplianceSettings()
    s3: S3Settings = S3Settings()
    admin: AdminSettings = AdminSettings()
    metrics: MetricsSettings = MetricsSettings()
    catalog: CatalogSettings = CatalogSettings()
    volumes: tuple[VolumeSettings, ...] = ()
    memory: MemorySettings = MemorySettings()
    reclaim: ReclaimSettings = ReclaimSettings()
    recovery: RecoverySettings = RecoverySettings()
    scrub: ScrubSettings = ScrubSettings()
    secrets: SecretsSettings = SecretsSettings()
    log: LogSettings = LogSettings()
    uploads: UploadsSettings = UploadsSettings()
    tenants: TenantsSettings = TenantsSettings()
    heat: HeatSettings = HeatSettings()
    access_sample: AccessSampleSettings = AccessSampleSettings()
    source: Path | None = None


SECTIONS = {
    "appliance": ApplianceSettings,
    "s3": S3Settings,
    "admin": AdminSettings,
    "metrics": MetricsSettings,
    "catalog": CatalogSettings,
    "volume": VolumeSettings,
    "memory": MemorySettings,
    "reclaim": ReclaimSettings,
    "recovery": RecoverySettings,
    "scrub": ScrubSettings,
    "secrets": SecretsSettings,
    "log": LogSettings,
    "uploads": UploadsSettings,
    "tenants": TenantsSettings,
    "heat": HeatSettings,
    "access_sample": AccessSampleSettings,
}
"""Section of the file -> record; `volume` is the one that may come several times."""
