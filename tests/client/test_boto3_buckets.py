"""boto3: buckets, what SDKs probe about them, two tenants, virtual-hosted style, presigned URLs."""

from __future__ import annotations

import socket
import ssl
import urllib.request
import uuid
from typing import TYPE_CHECKING

import pytest

from tests.client.access import Access, refused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_s3 import S3Client

pytestmark = [pytest.mark.client]


@pytest.fixture(scope="module")
def s3(access: Access) -> Iterator[S3Client]:
    """A boto3 client of the module's tenant."""
    with access.open_s3() as client:
        yield client


def other_tenant(access: Access) -> Access:
    """A second tenant on the same server."""
    tenant = access.server.create_tenant(f"t{uuid.uuid4().hex[:12]}")
    return Access(server=access.server, tenant=tenant)


def test_a_bucket_comes_and_goes(s3: S3Client, access: Access) -> None:
    name = access.make_bucket()

    head = s3.head_bucket(Bucket=name)
    assert head["BucketRegion"] == "us-east-1"
    assert s3.get_bucket_location(Bucket=name)["LocationConstraint"] is None
    assert name in [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]
    s3.delete_bucket(Bucket=name)
    assert name not in [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]


def test_creating_an_own_bucket_again_succeeds(s3: S3Client, access: Access) -> None:
    name = access.make_bucket()

    s3.create_bucket(Bucket=name)
    s3.head_bucket(Bucket=name)


@pytest.mark.parametrize(
    ("call", "code"),
    [
        ("get_bucket_policy", "NoSuchBucketPolicy"),
        ("get_bucket_cors", "NoSuchCORSConfiguration"),
        ("get_bucket_lifecycle_configuration", "NoSuchLifecycleConfiguration"),
        ("get_bucket_tagging", "NoSuchTagSet"),
        ("get_bucket_website", "NoSuchWebsiteConfiguration"),
        ("get_bucket_replication", "ReplicationConfigurationNotFoundError"),
        ("get_object_lock_configuration", "ObjectLockConfigurationNotFoundError"),
        ("get_public_access_block", "NoSuchPublicAccessBlockConfiguration"),
        ("get_bucket_ownership_controls", "OwnershipControlsNotFoundError"),
        ("get_bucket_encryption", "ServerSideEncryptionConfigurationNotFoundError"),
    ],
)
def test_a_probe_is_answered_by_the_right_absence(
    s3: S3Client, access: Access, call: str, code: str
) -> None:
    name = access.make_bucket()

    with refused(code, 404):
        getattr(s3, call)(Bucket=name)


@pytest.mark.parametrize(
    "call",
    [
        "get_bucket_logging",
        "get_bucket_notification_configuration",
        "get_bucket_accelerate_configuration",
        "get_bucket_request_payment",
        "get_bucket_acl",
        "list_bucket_analytics_configurations",
        "list_bucket_inventory_configurations",
        "list_bucket_metrics_configurations",
    ],
)
def test_a_probe_is_answered_by_an_empty_document(s3: S3Client, access: Access, call: str) -> None:
    name = access.make_bucket()

    assert getattr(s3, call)(Bucket=name)["ResponseMetadata"]["HTTPStatusCode"] == 200


def test_what_is_not_built_yet_says_so(s3: S3Client, access: Access) -> None:
    name = access.make_bucket()

    with refused("NotImplemented", 501):
        s3.put_bucket_policy(Bucket=name, Policy="{}")
    with refused("NotImplemented", 501):
        s3.put_bucket_acl(Bucket=name, ACL="public-read")
    with refused("NotImplemented", 501):
        s3.put_object(Bucket=name, Key="k", Body=b"", ServerSideEncryption="aws:kms")
    s3.put_bucket_acl(Bucket=name, ACL="private")


def test_two_tenants_have_a_bucket_of_the_same_name(access: Access) -> None:
    other = other_tenant(access)
    name = f"shared-{uuid.uuid4().hex[:8]}"
    access.make_bucket(name)
    other.make_bucket(name)
    with access.open_s3() as mine, other.open_s3() as theirs:
        mine.put_object(Bucket=name, Key="k", Body=b"mine")
        theirs.put_object(Bucket=name, Key="k", Body=b"theirs")
        theirs.put_object(Bucket=name, Key="only theirs", Body=b"x")

        assert mine.get_object(Bucket=name, Key="k")["Body"].read() == b"mine"
        assert theirs.get_object(Bucket=name, Key="k")["Body"].read() == b"theirs"
        assert mine.list_objects_v2(Bucket=name)["KeyCount"] == 1

        theirs.delete_objects(
            Bucket=name, Delete={"Objects": [{"Key": "k"}, {"Key": "only theirs"}]}
        )
        theirs.delete_bucket(Bucket=name)
        assert mine.get_object(Bucket=name, Key="k")["Body"].read() == b"mine"
        with refused("NoSuchBucket", 404):
            theirs.list_objects_v2(Bucket=name)


def test_a_quota_is_exact_and_deletes_always_work(access: Access) -> None:
    tenant = access.server.create_tenant(
        f"t{uuid.uuid4().hex[:12]}", "--quota-bytes", "10KiB", "--quota-buckets", "1"
    )
    limited = Access(server=access.server, tenant=tenant)
    name = limited.make_bucket()
    with limited.open_s3() as s3:
        s3.put_object(Bucket=name, Key="half", Body=b"x" * 5120)
        s3.put_object(Bucket=name, Key="rest", Body=b"x" * 5120)
        with refused("QuotaExceeded", 403):
            s3.put_object(Bucket=name, Key="more", Body=b"x")
        with refused("TooManyBuckets", 400):
            s3.create_bucket(Bucket="one-too-many")
        s3.delete_object(Bucket=name, Key="half")
        s3.put_object(Bucket=name, Key="again", Body=b"x" * 5120)


def fetch(access: Access, url: str, *, method: str = "GET", body: bytes | None = None) -> bytes:
    """A request by the standard library: no S3 code on the client's side."""
    context = None
    if access.ca_bundle is not None:
        context = ssl.create_default_context(cafile=str(access.ca_bundle))
    request = urllib.request.Request(url, data=body, method=method)
    with urllib.request.urlopen(request, timeout=10, context=context) as answer:
        received = answer.read()
    assert isinstance(received, bytes)
    return received


def test_presigned_urls_read_and_write(s3: S3Client, access: Access) -> None:
    name = access.make_bucket()
    parameters = {"Bucket": name, "Key": "a b/ü+%"}
    put = s3.generate_presigned_url("put_object", Params=parameters, ExpiresIn=60)
    get = s3.generate_presigned_url("get_object", Params=parameters, ExpiresIn=60)

    fetch(access, put, method="PUT", body=b"by hand")
    assert fetch(access, get) == b"by hand"


def test_virtual_hosted_style(access: Access, monkeypatch: pytest.MonkeyPatch) -> None:
    # No name server knows *.s3.test; everything of it lies on the loopback here.
    find_address = socket.getaddrinfo

    def find_loopback(host: str, *arguments: int, **options: int) -> object:
        return find_address("127.0.0.1", *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", find_loopback)
    name = access.make_bucket()
    scheme, _, rest = access.endpoint.partition("://")
    port = rest.rpartition(":")[2]
    with access.open_s3(style="virtual", endpoint=f"{scheme}://s3.test:{port}") as s3:
        s3.put_object(Bucket=name, Key="dir/k", Body=b"virtual")

        assert s3.get_object(Bucket=name, Key="dir/k")["Body"].read() == b"virtual"
        assert s3.list_objects_v2(Bucket=name)["KeyCount"] == 1
        assert s3.head_bucket(Bucket=name)["BucketRegion"] == "us-east-1"
        url = s3.generate_presigned_url("get_object", Params={"Bucket": name, "Key": "dir/k"})
        assert url.startswith(f"{scheme}://{name}.s3.test:{port}/dir/k?")
        assert fetch(access, url) == b"virtual"
