"""A catalog that is gone for good: made again of the volumes, and every object is what it was."""

from __future__ import annotations

import contextlib
import json
import time
from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import ClientError

from appliance.catalog import schema
from tests.catalog_fixtures import postgres_server
from tests.client.access import Access
from tests.client.server import CommandFailed, ServerProcess, run_command
from tests.client.test_scrub import pseudo_bytes, turn_byte

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import (
        CompletedPartTypeDef,
        ObjectIdentifierTypeDef,
        TagTypeDef,
    )

pytestmark = [pytest.mark.client, pytest.mark.slow]

MIB = 1024**2
TENANTS = ("acme", "globex")
FAST_RECLAIM = {"THERMOCLINE_RECLAIM_GRACE_S": "1", "THERMOCLINE_RECLAIM_INTERVAL_S": "1"}
DEADLINE_S = 30.0

Seen = dict[str, object]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    server = ServerProcess(tmp_path, settings=FAST_RECLAIM)
    try:
        yield server
    finally:
        server.discard()


def fill(s3: S3Client, tenant: str) -> None:
    """Everything that leaves another trace in the segments."""
    s3.create_bucket(Bucket="plain")
    s3.create_bucket(Bucket="kept")
    s3.create_bucket(Bucket="empty")
    s3.put_bucket_versioning(Bucket="kept", VersioningConfiguration={"Status": "Enabled"})
    s3.put_object(
        Bucket="plain",
        Key="d\u00e4ta/small",
        Body=pseudo_bytes(tenant, 700),
        ContentType="text/x-note",
        CacheControl="no-cache",
        Metadata={"of": tenant},
        Tagging="a=1&b=2",
    )
    s3.put_object(Bucket="plain", Key="large", Body=pseudo_bytes(tenant + "l", 9 * MIB + 5))
    s3.put_object(Bucket="plain", Key="none", Body=b"")
    s3.put_object(Bucket="plain", Key="twice", Body=b"first")
    s3.put_object(Bucket="plain", Key="twice", Body=b"second")
    s3.put_object(Bucket="plain", Key="gone", Body=b"gone")
    s3.delete_object(Bucket="plain", Key="gone")
    tag(s3, "large", {"kind": "big"})
    tag(s3, "large", {"kind": "bigger"})
    fill_copies(s3, tenant)
    fill_history(s3, tenant)
    s3.create_multipart_upload(Bucket="plain", Key="never completed")


def fill_copies(s3: S3Client, tenant: str) -> None:
    # A rename: the body lives on, and only under its new name.
    s3.put_object(Bucket="plain", Key="old-name", Body=pseudo_bytes(tenant + "r", 3000))
    s3.copy_object(Bucket="plain", Key="new-name", CopySource="plain/old-name")
    s3.delete_object(Bucket="plain", Key="old-name")
    # A copy whose source was then overwritten, and one that outlives its tags' manifest.
    s3.put_object(Bucket="plain", Key="source", Body=b"to be copied")
    s3.copy_object(
        Bucket="kept",
        Key="copy",
        CopySource="plain/source",
        MetadataDirective="REPLACE",
        Metadata={"is": "a copy"},
    )
    s3.put_object(Bucket="plain", Key="source", Body=b"other")
    s3.delete_object(Bucket="plain", Key="source")
    upload(s3, "parts", tenant)
    s3.copy_object(Bucket="kept", Key="parts-copy", CopySource="plain/parts")
    tag(s3, "parts", {"made": "of parts"})


def fill_history(s3: S3Client, tenant: str) -> None:
    for number in range(3):
        s3.put_object(Bucket="kept", Key="history", Body=f"{tenant} {number}".encode())
    s3.delete_object(Bucket="kept", Key="history")
    s3.put_object(Bucket="kept", Key="history", Body=b"after the marker")
    s3.delete_object(Bucket="kept", Key="never there")
    s3.put_object(Bucket="kept", Key="undeleted", Body=b"back")
    marker = s3.delete_object(Bucket="kept", Key="undeleted")["VersionId"]
    s3.delete_object(Bucket="kept", Key="undeleted", VersionId=marker)
    doomed = s3.put_object(Bucket="kept", Key="history", Body=b"removed for good")["VersionId"]
    s3.delete_object(Bucket="kept", Key="history", VersionId=doomed)
    for number in range(20):
        s3.put_object(Bucket="kept", Key=f"many/{number}", Body=str(number).encode())
    keys: list[ObjectIdentifierTypeDef] = [{"Key": f"many/{number}"} for number in range(10)]
    s3.delete_objects(Bucket="kept", Delete={"Objects": keys})
    s3.put_bucket_versioning(Bucket="kept", VersioningConfiguration={"Status": "Suspended"})
    s3.put_object(Bucket="kept", Key="history", Body=b"null version")
    s3.delete_object(Bucket="kept", Key="many/15")


def tag(s3: S3Client, key: str, tags: dict[str, str]) -> None:
    pairs: list[TagTypeDef] = [{"Key": name, "Value": value} for name, value in tags.items()]
    s3.put_object_tagging(Bucket="plain", Key=key, Tagging={"TagSet": pairs})


def upload(s3: S3Client, key: str, tenant: str) -> None:
    upload_id = s3.create_multipart_upload(
        Bucket="plain", Key=key, ContentType="x/parts", ChecksumAlgorithm="SHA256"
    )["UploadId"]
    parts: list[CompletedPartTypeDef] = []
    for number in (1, 2, 4):
        body = pseudo_bytes(f"{tenant}{number}", 5 * MIB + number)
        made = s3.upload_part(
            Bucket="plain",
            Key=key,
            UploadId=upload_id,
            PartNumber=number,
            Body=body,
            ChecksumAlgorithm="SHA256",
        )
        parts.append(
            {"PartNumber": number, "ETag": made["ETag"], "ChecksumSHA256": made["ChecksumSHA256"]}
        )
    s3.complete_multipart_upload(
        Bucket="plain", Key=key, UploadId=upload_id, MultipartUpload={"Parts": parts}
    )


def see(s3: S3Client) -> list[Seen]:
    """All that a client can tell of a tenant's namespace, version ids aside."""
    seen: list[Seen] = []
    for bucket in s3.list_buckets()["Buckets"]:
        name = bucket["Name"]
        listed = s3.list_object_versions(Bucket=name)
        seen.append(
            {
                "bucket": name,
                "created": bucket["CreationDate"],
                "versioning": s3.get_bucket_versioning(Bucket=name).get("Status"),
                "owner": listed.get("Versions", [{}])[0].get("Owner", {}).get("ID"),
            }
        )
        seen += [
            {
                "marker": item["Key"],
                "bucket": name,
                "latest": item["IsLatest"],
                "null": item["VersionId"] == "null",
                "modified": item["LastModified"],
            }
            for item in listed.get("DeleteMarkers", [])
        ]
        for item in listed.get("Versions", []):
            seen.append(see_version(s3, name, item["Key"], item["VersionId"]))
            seen[-1]["latest"] = item["IsLatest"]
            seen[-1]["modified"] = item["LastModified"]
    return seen


SHOWN = ("ContentType", "CacheControl", "Metadata", "ETag", "ChecksumSHA256", "ChecksumCRC64NVME")


def see_version(s3: S3Client, bucket: str, key: str, version_id: str) -> Seen:
    found = s3.get_object(Bucket=bucket, Key=key, VersionId=version_id, ChecksumMode="ENABLED")
    parts: object = None
    with contextlib.suppress(ClientError):
        attributes = s3.get_object_attributes(
            Bucket=bucket,
            Key=key,
            VersionId=version_id,
            ObjectAttributes=["ETag", "Checksum", "ObjectParts", "ObjectSize"],
        )
        parts = {name: attributes.get(name) for name in ("Checksum", "ObjectParts", "ObjectSize")}
    tags = s3.get_object_tagging(Bucket=bucket, Key=key, VersionId=version_id)["TagSet"]
    return {
        "bucket": bucket,
        "key": key,
        "null": version_id == "null",
        "body": found["Body"].read(),
        "tags": tags,
        "attributes": parts,
        **{name: found.get(name) for name in SHOWN},
    }


def quotas(server: ServerProcess) -> list[object]:
    return [server.command_json("bucket", "list", "--tenant", name) for name in TENANTS]


def wait_until_reclaimed(server: ServerProcess, tenant: Access) -> None:
    """Until a body that was deleted last was given back, and so everything deleted before it."""
    volumes = server.directory / "volume-ssd"
    needle = pseudo_bytes("the last one", 5000)
    with tenant.open_s3() as s3:
        s3.put_object(Bucket="plain", Key="last", Body=needle)
        s3.delete_object(Bucket="plain", Key="last")
    end = time.monotonic() + DEADLINE_S
    while any(needle[:64] in head(path) for path in volumes.glob("*.segment")):
        assert time.monotonic() < end, "not reclaimed"
        time.sleep(0.2)


def head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(256 * MIB)


def rebuild(server: ServerProcess) -> dict[str, object]:
    printed = run_command(
        ["fsck", "--rebuild-catalog", "--yes", "--json", "--config", str(server.config_path)],
        server.environment,
    )
    found = json.loads(printed)
    assert isinstance(found, dict)
    return found


def test_every_object_is_what_it_was_before_the_catalog_was_lost(server: ServerProcess) -> None:
    server.start()
    before: list[list[Seen]] = []
    accesses = [Access(server=server, tenant=server.create_tenant(name)) for name in TENANTS]
    server.command("quota", "set", "acme", "--quota-bytes", "1GiB")
    for access in accesses:
        with access.open_s3() as s3:
            fill(s3, access.tenant.name)
            before.append(see(s3))
    server.command("quota", "set", "globex/plain", "--quota-objects", "1000")
    wait_until_reclaimed(server, accesses[0])
    quotas_before = quotas(server)
    server.stop()
    for path in server.data_path.glob("catalog.db*"):
        path.unlink()

    report = rebuild(server)
    server.start()
    after: list[list[Seen]] = []
    for name in TENANTS:
        access = Access(server=server, tenant=server.create_key(name))
        with access.open_s3() as s3:
            after.append(see(s3))

    assert report["left_out_count"] == 0
    assert report["damaged_count"] == 0
    assert report["tenants_without_keys"] == list(TENANTS)
    assert after == before
    assert quotas(server) == quotas_before
    server.command("catalog", "check")
    server.command("scrub", "start", "--wait")
    scrubbed = server.command_json("scrub", "status")
    assert isinstance(scrubbed, dict)
    assert scrubbed["objects"] == []
    assert all(volume["quarantined_pages"] == 0 for volume in scrubbed["volumes"])


def test_a_copy_of_before_lends_keys_and_version_ids(server: ServerProcess) -> None:
    server.start()
    access = Access(server=server, tenant=server.create_tenant("acme", "--quota-bytes", "1GiB"))
    copy = server.directory / "copy.db"
    with access.open_s3() as s3:
        fill(s3, "acme")
        ids = version_ids(s3)
        server.command("catalog", "backup", str(copy))
        s3.put_object(Bucket="kept", Key="history", Body=b"after the copy")
        s3.put_object(Bucket="plain", Key="after the copy", Body=b"new")
        s3.create_bucket(Bucket="after-the-copy")
        before = see(s3)
    wait_until_reclaimed(server, access)
    quota = server.command_json("quota", "show", "acme")
    server.stop()
    (server.data_path / "catalog.db").unlink()

    run_command(
        ["catalog", "restore", str(copy), "--yes", "--config", str(server.config_path)],
        server.environment,
    )
    report = rebuild(server)
    server.start()

    assert str(report["old_catalog"]).startswith("sound")
    assert report["tenants_without_keys"] == []
    assert server.command_json("quota", "show", "acme") == quota
    with Access(server=server, tenant=access.tenant).open_s3() as s3:
        replaced = {"null"}  # the null version's id is the same for each one
        assert set(ids) - replaced <= set(version_ids(s3))
        assert see(s3) == before
        s3.put_object(Bucket="kept", Key="history", Body=b"and on it goes")
    server.command("catalog", "check")


def version_ids(s3: S3Client) -> list[str]:
    listed = s3.list_object_versions(Bucket="kept")
    return [item["VersionId"] for item in (*listed["Versions"], *listed["DeleteMarkers"])]


def test_a_damaged_page_costs_its_object_and_nothing_else(server: ServerProcess) -> None:
    server.start()
    access = Access(server=server, tenant=server.create_tenant("acme"))
    body = pseudo_bytes("rotten", 9 * MIB)
    with access.open_s3() as s3:
        s3.create_bucket(Bucket="plain")
        s3.put_object(Bucket="plain", Key="rotten", Body=body)
        s3.put_object(Bucket="plain", Key="sound", Body=b"sound")
    server.stop()
    (server.data_path / "catalog.db").write_bytes(b"not a catalog any more" * 1000)
    turn_byte(server.directory, body[5 * MIB : 5 * MIB + 64])

    with pytest.raises(CommandFailed) as caught:
        rebuild(server)
    report = json.loads(caught.value.output)
    server.start()

    assert caught.value.status == 3
    assert [item["key"] for item in report["left_out"]] == ["rotten"]
    assert str(report["old_catalog"]).startswith("not used")
    assert list(server.data_path.glob("catalog.db.replaced-*"))
    with Access(server=server, tenant=server.create_key("acme")).open_s3() as s3:
        assert [item["Key"] for item in s3.list_objects_v2(Bucket="plain")["Contents"]] == ["sound"]


def test_nothing_is_rebuilt_while_a_server_runs(server: ServerProcess) -> None:
    server.start()

    with pytest.raises(CommandFailed) as caught:
        rebuild(server)

    assert caught.value.status == 1
    assert server.is_running


@pytest.mark.postgres
def test_a_postgresql_catalog_is_rebuilt_into_an_empty_database_only(tmp_path: Path) -> None:
    with postgres_server() as make_database:
        server = ServerProcess(tmp_path, settings=FAST_RECLAIM)
        try:
            server.start()
            access = Access(server=server, tenant=server.create_tenant("acme"))
            with access.open_s3() as s3:
                fill(s3, "acme")
                before = see(s3)
            wait_until_reclaimed(server, access)
            server.stop()
            url = make_database()
            schema.downgrade(url, revision="base")
            server.environment["THERMOCLINE_CATALOG_URL"] = url

            report = rebuild(server)
            with pytest.raises(CommandFailed) as caught:
                rebuild(server)
            server.start()

            assert str(report["old_catalog"]).startswith("none: PostgreSQL")
            assert caught.value.status == 1
            assert "name an empty database" in caught.value.errors
            with Access(server=server, tenant=server.create_key("acme")).open_s3() as s3:
                assert see(s3) == before
            server.command("catalog", "check")
        finally:
            server.discard()
