"""One tenant on one server, in the words of each client: environment, files, Python objects."""

from __future__ import annotations

import contextlib
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mypy_boto3_s3 import S3Client

    from tests.client.server import ServerProcess, TenantAccess

__all__ = ["Access", "refused"]

REGION = "us-east-1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What a client needs to reach one tenant."""

    server: ServerProcess
    tenant: TenantAccess

    @property
    def endpoint(self) -> str:
        """Base address of the S3 listener."""
        return self.server.endpoint

    @property
    def is_secure(self) -> bool:
        """True over TLS."""
        return self.server.tls is not None

    @property
    def ca_bundle(self) -> Path | None:
        """The bundle that makes the server's certificate trusted, None over plain HTTP."""
        return self.server.tls.ca_bundle if self.server.tls is not None else None

    @contextlib.contextmanager
    def open_s3(
        self, *, style: str = "path", endpoint: str | None = None, read_timeout_s: int = 30
    ) -> Iterator[S3Client]:
        """A boto3 client with one try per request, so that no refusal hides behind a retry."""
        client: S3Client = boto3.client(
            "s3",
            endpoint_url=endpoint if endpoint is not None else self.endpoint,
            region_name=REGION,
            aws_access_key_id=self.tenant.access_key_id,
            aws_secret_access_key=self.tenant.secret_access_key,
            verify=str(self.ca_bundle) if self.ca_bundle else None,
            config=Config(
                signature_version="s3v4",  # boto3 presigns with version 2 otherwise
                retries={"total_max_attempts": 1},
                connect_timeout=10,
                read_timeout=read_timeout_s,
                s3={"addressing_style": "virtual" if style == "virtual" else "path"},
            ),
        )
        try:
            yield client
        finally:
            client.close()

    def make_bucket(self, name: str | None = None) -> str:
        """Creates a bucket of a fresh name."""
        bucket = name if name is not None else f"b-{uuid.uuid4().hex[:16]}"
        with self.open_s3() as s3:
            s3.create_bucket(Bucket=bucket)
        return bucket

    def aws_environment(self) -> dict[str, str]:
        """For aws-cli, s5cmd and restic: key, region, endpoint and trust."""
        environment = {
            "AWS_ACCESS_KEY_ID": self.tenant.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.tenant.secret_access_key,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_REGION": REGION,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_MAX_ATTEMPTS": "1",
        }
        if self.ca_bundle is not None:
            environment["AWS_CA_BUNDLE"] = str(self.ca_bundle)
            environment["SSL_CERT_FILE"] = str(self.ca_bundle)
        return environment

    def rclone_environment(self, *, remote: str = "box") -> dict[str, str]:
        """For rclone: a remote called `box`, as a user would configure it for a new server."""
        prefix = f"RCLONE_CONFIG_{remote.upper()}_"
        environment = {
            "RCLONE_CONFIG": "/notfound",
            f"{prefix}TYPE": "s3",
            f"{prefix}PROVIDER": "Other",
            f"{prefix}ACCESS_KEY_ID": self.tenant.access_key_id,
            f"{prefix}SECRET_ACCESS_KEY": self.tenant.secret_access_key,
            f"{prefix}ENDPOINT": self.endpoint,
            f"{prefix}REGION": REGION,
            "RCLONE_LOW_LEVEL_RETRIES": "1",
            "RCLONE_RETRIES": "1",
        }
        if self.ca_bundle is not None:
            environment["RCLONE_CA_CERT"] = str(self.ca_bundle)
        return environment


@contextlib.contextmanager
def refused(code: str, status: int | None = None) -> Iterator[None]:
    """Asserts that boto3 is refused with this code (and status)."""
    with pytest.raises(ClientError) as caught:
        yield
    answer = caught.value.response
    assert answer["Error"]["Code"] == code, answer
    if status is not None:
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == status, answer
