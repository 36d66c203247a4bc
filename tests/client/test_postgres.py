"""The whole server on a PostgreSQL catalog: what SQLite does, it does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from boto3.s3.transfer import TransferConfig

from tests.catalog_fixtures import postgres_server
from tests.client.access import Access
from tests.client.server import CommandFailed, ServerProcess, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MIB = 1024 * 1024

pytestmark = [pytest.mark.postgres, pytest.mark.client]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with postgres_server() as make_database:
        options = ("--catalog-url", make_database())
        directory = tmp_path_factory.mktemp("postgres")
        with running(ServerProcess(directory, init_options=options)) as started:
            yield started


@pytest.fixture(scope="module")
def access(server: ServerProcess) -> Access:
    return Access(server=server, tenant=server.create_tenant("acme"))


def test_objects_versions_and_parts_survive_a_kill(access: Access, tmp_path: Path) -> None:
    bucket = access.make_bucket()
    whole = bytes(range(256)) * (13 * MIB // 256)
    path = tmp_path / "whole"
    path.write_bytes(whole)
    with access.open_s3() as s3:
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        first = s3.put_object(Bucket=bucket, Key="key", Body=b"first")["VersionId"]
        s3.put_object(Bucket=bucket, Key="key", Body=b"second")
        s3.upload_file(
            str(path), bucket, "parts", Config=TransferConfig(multipart_threshold=5 * MIB)
        )
        marker = s3.delete_object(Bucket=bucket, Key="key")

    access.server.kill()
    access.server.start()

    with access.open_s3() as s3:
        old = s3.get_object(Bucket=bucket, Key="key", VersionId=first)
        assert old["Body"].read() == b"first"
        assert s3.get_object(Bucket=bucket, Key="parts")["Body"].read() == whole
        listed = s3.list_object_versions(Bucket=bucket)
        assert len(listed["Versions"]) == 3
        assert [entry["VersionId"] for entry in listed["DeleteMarkers"]] == [marker["VersionId"]]
    assert access.server.command("catalog", "check").strip() == "the catalog is sound"


def test_a_quota_holds(access: Access) -> None:
    tenant = access.server.create_tenant("small", "--quota-objects", "5")
    limited = Access(server=access.server, tenant=tenant)
    bucket = limited.make_bucket()
    outcomes = []
    with limited.open_s3() as s3:
        for number in range(8):
            try:
                s3.put_object(Bucket=bucket, Key=str(number), Body=b"x")
                outcomes.append("stored")
            except s3.exceptions.ClientError as error:
                outcomes.append(str(error.response.get("Error", {}).get("Code")))

    assert outcomes == ["stored"] * 5 + ["QuotaExceeded"] * 3


def test_the_catalog_is_backed_up_by_its_own_tool(access: Access, tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match="pg_dump"):
        access.server.command("catalog", "backup", str(tmp_path / "copy"))
