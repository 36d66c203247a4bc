"""Bucket settings that this server does not have and clients nevertheless ask for: a table.

SDKs, Terraform and mc probe them and take any other answer than S3's for a fault.

Source: AWS, Amazon S3 API Reference, the Get operation of each setting.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.s3.codes import S3Code
from appliance.s3.errors import S3Error
from appliance.s3.xml_writer import document, text_element

if TYPE_CHECKING:
    from collections.abc import Mapping

    from appliance.s3.operations import GetBucketSubresource

__all__ = ["PROBES", "answer_probe"]

_NONE_MORE = text_element("IsTruncated", False)

PROBES: Mapping[str, bytes | S3Code] = {
    "accelerate": document("AccelerateConfiguration"),
    "analytics": document("ListBucketAnalyticsConfigurationResult", _NONE_MORE),
    "cors": S3Code.NO_SUCH_CORS_CONFIGURATION,
    "encryption": S3Code.NO_SUCH_ENCRYPTION_CONFIGURATION,
    "intelligent-tiering": document("ListBucketIntelligentTieringConfigurationsOutput", _NONE_MORE),
    "inventory": document("ListInventoryConfigurationsResult", _NONE_MORE),
    "lifecycle": S3Code.NO_SUCH_LIFECYCLE_CONFIGURATION,
    "logging": document("BucketLoggingStatus"),
    "metrics": document("ListMetricsConfigurationsResult", _NONE_MORE),
    "notification": document("NotificationConfiguration"),
    "object-lock": S3Code.NO_SUCH_OBJECT_LOCK_CONFIGURATION,
    "ownershipControls": S3Code.NO_SUCH_OWNERSHIP_CONTROLS,
    "policy": S3Code.NO_SUCH_BUCKET_POLICY,
    "policyStatus": S3Code.NO_SUCH_BUCKET_POLICY,
    "publicAccessBlock": S3Code.NO_SUCH_PUBLIC_ACCESS_BLOCK,
    "replication": S3Code.NO_SUCH_REPLICATION_CONFIGURATION,
    "requestPayment": document("RequestPaymentConfiguration", text_element("Payer", "BucketOwner")),
    "tagging": S3Code.NO_SUCH_TAG_SET,
    "website": S3Code.NO_SUCH_WEBSITE_CONFIGURATION,
}
_BY_ID = frozenset({"analytics", "intelligent-tiering", "inventory", "metrics"})


def answer_probe(operation: GetBucketSubresource) -> bytes:
    """The document for a setting that is not set.

    Raises:
        S3Error: The `NoSuch...` code where S3 answers with one, and for a single configuration
            asked for by its id.
    """
    answer = PROBES[operation.name]
    if operation.configuration_id is not None and operation.name in _BY_ID:
        answer = S3Code.NO_SUCH_CONFIGURATION
    if isinstance(answer, S3Code):
        raise S3Error(answer, elements={"BucketName": operation.bucket})
    return answer
