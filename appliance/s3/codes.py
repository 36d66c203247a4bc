"""The S3 error codes this server gives: one table of code, status and default message.

Source: AWS, "Error responses" of the Amazon S3 API Reference. Rows marked (ours) are not AWS codes
or carry a status of our choice; the reason stands beside them.
"""

from __future__ import annotations

import enum

__all__ = ["S3Code"]


class S3Code(enum.Enum):
    """An error code with its HTTP status and the message given where the raiser gives none."""

    def __init__(self, code: str, status: int, message: str) -> None:
        self.code = code
        self.status = status
        self.message = message

    ACCESS_DENIED = ("AccessDenied", 403, "Access Denied")
    ACCESS_CONTROL_LIST_NOT_SUPPORTED = (
        "AccessControlListNotSupported",
        400,
        "The bucket does not allow ACLs",
    )
    AUTHORIZATION_HEADER_MALFORMED = (
        "AuthorizationHeaderMalformed",
        400,
        "The authorization header is malformed",
    )
    AUTHORIZATION_QUERY_PARAMETERS_ERROR = (
        "AuthorizationQueryParametersError",
        400,
        "The authorization query parameters are wrong",
    )
    BAD_DIGEST = ("BadDigest", 400, "The digest you specified did not match what we received")
    BUCKET_ALREADY_EXISTS = (
        "BucketAlreadyExists",
        409,
        "The requested bucket name is not available",
    )
    BUCKET_ALREADY_OWNED_BY_YOU = (
        "BucketAlreadyOwnedByYou",
        409,
        "You own a bucket of that name already",
    )
    BUCKET_NOT_EMPTY = ("BucketNotEmpty", 409, "The bucket you tried to delete is not empty")
    CONDITIONAL_REQUEST_CONFLICT = (
        "ConditionalRequestConflict",
        409,
        "A conflicting operation is in progress",
    )
    ENTITY_TOO_LARGE = (
        "EntityTooLarge",
        400,
        "Your proposed upload exceeds the maximum allowed size",
    )
    ENTITY_TOO_SMALL = (
        "EntityTooSmall",
        400,
        "Your proposed upload is smaller than the minimum allowed size",
    )
    EXPECTATION_FAILED = (  # (ours) RFC 9110 section 10.1.1; AWS documents no code for it
        "ExpectationFailed",
        417,
        "The only expectation met here is 100-continue",
    )
    ILLEGAL_LOCATION_CONSTRAINT = (
        "IllegalLocationConstraintException",
        400,
        "The location constraint is not this region",
    )
    INCOMPLETE_BODY = (
        "IncompleteBody",
        400,
        "You did not provide the number of bytes that you announced",
    )
    INSUFFICIENT_STORAGE = (  # (ours) the status WebDAV has for it, RFC 4918 section 11.5
        "InsufficientStorage",
        507,
        "There is no room left for this object",
    )
    INTERNAL_ERROR = ("InternalError", 500, "We encountered an internal error")
    INVALID_ACCESS_KEY_ID = (
        "InvalidAccessKeyId",
        403,
        "The access key id you provided does not exist in our records",
    )
    INVALID_ARGUMENT = ("InvalidArgument", 400, "Invalid argument")
    INVALID_BUCKET_NAME = ("InvalidBucketName", 400, "The specified bucket is not valid")
    INVALID_CHUNK_SIZE = ("InvalidChunkSizeError", 403, "Only the last chunk may be below 8 KiB")
    INVALID_DIGEST = ("InvalidDigest", 400, "The Content-MD5 you specified is not valid")
    INVALID_OBJECT_STATE = (
        "InvalidObjectState",
        403,
        "The operation is not valid for the object's storage class",
    )
    INVALID_PART = (
        "InvalidPart",
        400,
        "One or more of the specified parts could not be found or matched",
    )
    INVALID_PART_NUMBER = ("InvalidPartNumber", 416, "The requested part number is not satisfiable")
    INVALID_PART_ORDER = ("InvalidPartOrder", 400, "The list of parts was not in ascending order")
    INVALID_RANGE = ("InvalidRange", 416, "The requested range is not satisfiable")
    INVALID_REQUEST = ("InvalidRequest", 400, "Invalid request")
    INVALID_STORAGE_CLASS = (
        "InvalidStorageClass",
        400,
        "The storage class you specified is not valid",
    )
    INVALID_TAG = ("InvalidTag", 400, "The tag provided was not valid")
    INVALID_TOKEN = (
        "InvalidToken",
        400,
        "The provided token is malformed or otherwise invalid",
    )
    INVALID_URI = ("InvalidURI", 400, "Could not parse the specified URI")
    KEY_TOO_LONG = ("KeyTooLongError", 400, "Your key is too long")
    MALFORMED_TRAILER = ("MalformedTrailerError", 400, "The request's trailer is malformed")
    MALFORMED_XML = (
        "MalformedXML",
        400,
        "The XML you provided was not well-formed or not of our schema",
    )
    MAX_MESSAGE_LENGTH_EXCEEDED = ("MaxMessageLengthExceeded", 400, "Your request was too big")
    METADATA_TOO_LARGE = (
        "MetadataTooLarge",
        400,
        "Your metadata headers exceed the maximum allowed size",
    )
    METHOD_NOT_ALLOWED = (
        "MethodNotAllowed",
        405,
        "The specified method is not allowed against this resource",
    )
    MISSING_CONTENT_LENGTH = (
        "MissingContentLength",
        411,
        "You must provide the Content-Length HTTP header",
    )
    MISSING_REQUEST_BODY = ("MissingRequestBodyError", 400, "Request body is empty")
    NO_SUCH_BUCKET = ("NoSuchBucket", 404, "The specified bucket does not exist")
    NO_SUCH_BUCKET_POLICY = ("NoSuchBucketPolicy", 404, "The bucket policy does not exist")
    NO_SUCH_CORS_CONFIGURATION = (
        "NoSuchCORSConfiguration",
        404,
        "The CORS configuration does not exist",
    )
    NO_SUCH_ENCRYPTION_CONFIGURATION = (
        "ServerSideEncryptionConfigurationNotFoundError",
        404,
        "The server side encryption configuration was not found",
    )
    NO_SUCH_KEY = ("NoSuchKey", 404, "The specified key does not exist")
    NO_SUCH_LIFECYCLE_CONFIGURATION = (
        "NoSuchLifecycleConfiguration",
        404,
        "The lifecycle configuration does not exist",
    )
    NO_SUCH_OBJECT_LOCK_CONFIGURATION = (
        "ObjectLockConfigurationNotFoundError",
        404,
        "Object Lock configuration does not exist for this bucket",
    )
    NO_SUCH_OWNERSHIP_CONTROLS = (
        "OwnershipControlsNotFoundError",
        404,
        "The bucket ownership controls were not found",
    )
    NO_SUCH_PUBLIC_ACCESS_BLOCK = (
        "NoSuchPublicAccessBlockConfiguration",
        404,
        "The public access block configuration was not found",
    )
    NO_SUCH_REPLICATION_CONFIGURATION = (
        "ReplicationConfigurationNotFoundError",
        404,
        "The replication configuration was not found",
    )
    NO_SUCH_TAG_SET = ("NoSuchTagSet", 404, "There is no tag set associated with the bucket")
    NO_SUCH_UPLOAD = ("NoSuchUpload", 404, "The specified multipart upload does not exist")
    NO_SUCH_VERSION = ("NoSuchVersion", 404, "The specified version does not exist")
    NO_SUCH_WEBSITE_CONFIGURATION = (
        "NoSuchWebsiteConfiguration",
        404,
        "The specified bucket does not have a website configuration",
    )
    NO_SUCH_CONFIGURATION = ("NoSuchConfiguration", 404, "The configuration does not exist")
    NOT_IMPLEMENTED = (
        "NotImplemented",
        501,
        "A header or operation you provided is not implemented",
    )
    PRECONDITION_FAILED = (
        "PreconditionFailed",
        412,
        "At least one of the preconditions did not hold",
    )
    QUOTA_EXCEEDED = ("QuotaExceeded", 403, "The quota would be exceeded")  # (ours) not retried
    REQUEST_HEADER_SECTION_TOO_LARGE = (
        "RequestHeaderSectionTooLarge",
        400,
        "Your request header section exceeds the maximum",
    )
    REQUEST_TIMEOUT = (
        "RequestTimeout",
        400,
        "Your socket connection was not read from or written to in time",
    )
    REQUEST_TIME_TOO_SKEWED = (
        "RequestTimeTooSkewed",
        403,
        "The difference between request and server time is too large",
    )
    SERVICE_UNAVAILABLE = ("ServiceUnavailable", 503, "Please try again")
    SIGNATURE_DOES_NOT_MATCH = (
        "SignatureDoesNotMatch",
        403,
        "The request signature we calculated does not match the one you provided",
    )
    SLOW_DOWN = ("SlowDown", 503, "Please reduce your request rate")
    TOO_MANY_BUCKETS = (
        "TooManyBuckets",
        400,
        "You have attempted to create more buckets than allowed",
    )
    X_AMZ_CONTENT_SHA256_MISMATCH = (
        "XAmzContentSHA256Mismatch",
        400,
        "The provided x-amz-content-sha256 header does not match what was computed",
    )
