"""The one authentication function, for every route (SECURITY, rule 1).

It returns a principal or raises. What the principal may do is `tenants.access.decide`'s matter.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from appliance.s3.codes import S3Code
from appliance.s3.errors import S3Error
from appliance.s3.sigv4 import Verified, parse_claim, verify, verify_unknown

if TYPE_CHECKING:
    from appliance.keyring import KeyRing
    from appliance.s3.messages import RequestHead
    from tenants.records import Principal

__all__ = ["authenticate"]


async def authenticate(
    head: RequestHead, *, keyring: KeyRing, region: str, now: float
) -> tuple[Principal, Verified]:
    """Who sent this request, proven by its Signature Version 4.

    Args:
        head: The raw request.
        keyring: Access keys and their secrets.
        region: The only region of this server.
        now: Wall clock, seconds since the epoch.

    Checkpoint: only where the key is not cached.

    Raises:
        S3Error: Anonymous, malformed, expired, unknown key, or a signature that does not match.
    """
    claim = parse_claim(head, region=region, now=datetime.fromtimestamp(now, UTC))
    if claim is None:
        raise S3Error(S3Code.ACCESS_DENIED)
    entry = keyring.find_trusted(claim.access_key_id)
    if entry is None:
        entry = await keyring.resolve(claim.access_key_id)
    if entry is None:
        verify_unknown(claim, head)
    signing_key = keyring.signing_key(entry, date=claim.scope_date, region=claim.region)
    return entry.principal, verify(claim, head, signing_key)
