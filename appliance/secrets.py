"""Keeps the secrets of access keys sealed: key file, envelope, and keys derived for other uses.

SigV4 needs the secret itself, so it is encrypted, not hashed. A **key file** (KEK, 32 bytes)
outside the catalog wraps a random **data key** (DEK) that the catalog stores; the data key seals
each secret with AES-256-GCM, a random 96-bit nonce, and tenant, access key and format version as
associated data, so that a sealed secret opens only in the row it was made for. Changing the key
file wraps the data key anew and touches no secret.

Layouts, all integers big-endian:

    wrapped data key   version 1 | key fingerprint 8 | nonce 12 | data key 32 | tag 16
    sealed secret      version 1 | nonce 12 | secret in UTF-8 | tag 16

This module knows neither the catalog nor tenants' rules. No object of it shows a key or a secret in
its `repr`. Source: NIST SP 800-38D section 8.2.2 (random nonces: 2^32 seals per key at most).
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = [
    "KEY_BYTES",
    "DataKeyDamaged",
    "KeyFileWrong",
    "SecretBox",
    "SecretDamaged",
    "SecretsError",
]

KEY_BYTES = 32
SECRET_BYTES_MAX = 1_024  # far above any secret; bounds what a damaged row can make us decrypt
_NONCE_BYTES = 12
_TAG_BYTES = 16
_FINGERPRINT_BYTES = 8
_VERSION = 1
_HEAD = struct.Struct(">B")
_SEAL_CONTEXT = struct.Struct(">BQ")  # version, tenant id; the access key id follows


class SecretsError(Exception):
    """Base of every error that sealing raises on purpose."""


class KeyFileWrong(SecretsError):
    """The key file is missing, unsafe, malformed or not the one that the catalog was sealed with.

    The appliance must not start: it could open no secret, and would seal new ones under a key that
    the next start may not have.
    """

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"key file {where}: {reason}")
        self.where = where
        self.reason = reason


class DataKeyDamaged(SecretsError):
    """The right key file, but the wrapped data key in the catalog is not what was stored."""

    def __init__(self) -> None:
        super().__init__("the catalog's wrapped data key is damaged: restore the catalog")


class SecretDamaged(SecretsError):
    """One sealed secret does not open: bytes changed, or it was moved from another row."""

    def __init__(self, access_key_id: str) -> None:
        super().__init__(f"the sealed secret of access key {access_key_id!r} is damaged")
        self.access_key_id = access_key_id


class SecretBox:
    """Seals and opens secrets with an unwrapped data key.

    `wrapped` is what the catalog stores. The box is immutable but for `rewrap`.
    """

    __slots__ = ("_cipher", "_data_key", "_random_bytes", "_wrapped")

    def __init__(
        self, data_key: bytes, wrapped: bytes, random_bytes: Callable[[int], bytes]
    ) -> None:
        assert len(data_key) == KEY_BYTES
        self._data_key = data_key
        self._wrapped = wrapped
        self._random_bytes = random_bytes
        self._cipher = AESGCM(data_key)

    def __repr__(self) -> str:
        return "SecretBox(...)"

    def __reduce__(self) -> str:
        raise TypeError("a SecretBox does not leave its process")

    @classmethod
    def create(cls, key: bytes, *, random_bytes: Callable[[int], bytes] = os.urandom) -> SecretBox:
        """A box with a new random data key, wrapped by `key` (32 bytes, from the key file).

        The caller stores `wrapped` before anything is sealed.
        """
        data_key = random_bytes(KEY_BYTES)
        return cls(data_key, _wrap(key, data_key, random_bytes), random_bytes)

    @classmethod
    def open(
        cls,
        keys: Sequence[bytes],
        wrapped: bytes,
        *,
        where: str = "",
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> SecretBox:
        """The box that `wrapped` was stored for.

        Args:
            keys: The key file's key; two where a change of keys was interrupted, see
                `appliance.key_file`.
            wrapped: As the catalog stores it.
            where: The key file's path, for the error.
            random_bytes: Gives that many unpredictable bytes.

        Raises:
            KeyFileWrong: None of `keys` wrapped it.
            DataKeyDamaged: One of them did, but it does not open.
        """
        if len(wrapped) != _WRAPPED_BYTES or wrapped[0] != _VERSION:
            raise DataKeyDamaged
        fingerprint = wrapped[1 : 1 + _FINGERPRINT_BYTES]
        for key in keys:
            if _fingerprint(key) == fingerprint:
                return cls(_unwrap(key, wrapped), wrapped, random_bytes)
        raise KeyFileWrong(where, "is not the key that this catalog was sealed with")

    @property
    def wrapped(self) -> bytes:
        """The wrapped data key, for the catalog."""
        return self._wrapped

    def rewrap(self, key: bytes) -> bytes:
        """Wrap the same data key with another `key`; the caller stores the result, in one commit.

        Sealed secrets stay as they are.
        """
        self._wrapped = _wrap(key, self._data_key, self._random_bytes)
        return self._wrapped

    def is_wrapped_by(self, key: bytes) -> bool:
        """True where `key` is the one that opens `wrapped`."""
        return self._wrapped[1 : 1 + _FINGERPRINT_BYTES] == _fingerprint(key)

    def seal(self, tenant_id: int, access_key_id: str, secret: str) -> bytes:
        """The secret, readable only with this box and for this tenant and access key."""
        plain = secret.encode("utf-8")
        assert len(plain) <= SECRET_BYTES_MAX
        nonce = self._random_bytes(_NONCE_BYTES)
        context = _seal_context(tenant_id, access_key_id)
        return _HEAD.pack(_VERSION) + nonce + self._cipher.encrypt(nonce, plain, context)

    def unseal(self, tenant_id: int, access_key_id: str, sealed: bytes) -> str:
        """The secret that was sealed for this tenant and access key.

        Raises:
            SecretDamaged: The bytes are not those that `seal` gave for them.
        """
        head = _HEAD.size + _NONCE_BYTES
        if not head + _TAG_BYTES <= len(sealed) <= head + SECRET_BYTES_MAX + _TAG_BYTES:
            raise SecretDamaged(access_key_id)
        if sealed[0] != _VERSION:
            raise SecretDamaged(access_key_id)
        nonce = sealed[_HEAD.size : head]
        context = _seal_context(tenant_id, access_key_id)
        try:
            return self._cipher.decrypt(nonce, sealed[head:], context).decode("utf-8")
        except InvalidTag as error:
            raise SecretDamaged(access_key_id) from error

    def mac_key(self, purpose: str) -> bytes:
        """32 bytes for an HMAC of `purpose` (`upload-id`, `continuation-token`).

        The same on every start and worker, and different for every purpose; it says nothing about
        the data key or about another purpose's key.
        """
        return _derive(self._data_key, f"thermocline mac {purpose}", KEY_BYTES)


_WRAPPED_BYTES = _HEAD.size + _FINGERPRINT_BYTES + _NONCE_BYTES + KEY_BYTES + _TAG_BYTES


def _derive(key: bytes, info: str, length: int) -> bytes:
    # No salt: the input is already uniformly random (RFC 5869 section 3.1).
    return HKDF(SHA256(), length, salt=None, info=info.encode("utf-8")).derive(key)


def _fingerprint(key: bytes) -> bytes:
    return _derive(key, "thermocline key fingerprint", _FINGERPRINT_BYTES)


def _seal_context(tenant_id: int, access_key_id: str) -> bytes:
    # The only field of variable length comes last, so no two contexts are the same bytes.
    return _SEAL_CONTEXT.pack(_VERSION, tenant_id) + access_key_id.encode("utf-8")


def _wrap(key: bytes, data_key: bytes, random_bytes: Callable[[int], bytes]) -> bytes:
    assert len(key) == KEY_BYTES
    head = _HEAD.pack(_VERSION) + _fingerprint(key)
    nonce = random_bytes(_NONCE_BYTES)
    wrapped = head + nonce + AESGCM(key).encrypt(nonce, data_key, head)
    assert _unwrap(key, wrapped) == data_key
    return wrapped


def _unwrap(key: bytes, wrapped: bytes) -> bytes:
    head_bytes = _HEAD.size + _FINGERPRINT_BYTES
    nonce = wrapped[head_bytes : head_bytes + _NONCE_BYTES]
    try:
        return AESGCM(key).decrypt(
            nonce, wrapped[head_bytes + _NONCE_BYTES :], wrapped[:head_bytes]
        )
    except InvalidTag as error:
        raise DataKeyDamaged from error
