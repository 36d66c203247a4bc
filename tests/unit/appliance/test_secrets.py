from __future__ import annotations

import os
import pickle

import pytest
from hypothesis import given, strategies as st

from appliance.secrets import DataKeyDamaged, KeyFileWrong, SecretBox, SecretDamaged

KEY = bytes(range(32))
OTHER_KEY = bytes(range(1, 33))
SECRET = "canary-secret-7wqZp2LrT9xVb4NcKd8mAbCdEf"


@pytest.fixture(scope="module")
def box() -> SecretBox:
    return SecretBox.create(KEY)


@given(
    tenant_id=st.integers(min_value=0, max_value=2**63 - 1),
    access_key_id=st.text(max_size=128),
    secret=st.text(max_size=128),
)
def test_a_sealed_secret_opens_for_its_own_row(
    box: SecretBox, tenant_id: int, access_key_id: str, secret: str
) -> None:
    sealed = box.seal(tenant_id, access_key_id, secret)

    assert box.unseal(tenant_id, access_key_id, sealed) == secret


def test_each_flipped_bit_of_a_sealed_secret_is_noticed(box: SecretBox) -> None:
    sealed = box.seal(1, "TCKEY", SECRET)

    for position in range(len(sealed)):
        for bit in range(8):
            damaged = bytearray(sealed)
            damaged[position] ^= 1 << bit
            with pytest.raises(SecretDamaged):
                box.unseal(1, "TCKEY", bytes(damaged))


def test_each_truncation_of_a_sealed_secret_is_noticed(box: SecretBox) -> None:
    sealed = box.seal(1, "TCKEY", SECRET)

    for length in range(len(sealed)):
        with pytest.raises(SecretDamaged):
            box.unseal(1, "TCKEY", sealed[:length])


@given(st.binary(max_size=200))
def test_garbage_is_a_damaged_secret_and_nothing_else(box: SecretBox, garbage: bytes) -> None:
    with pytest.raises(SecretDamaged):
        box.unseal(1, "TCKEY", garbage)


def test_swapped_rows_do_not_open(box: SecretBox) -> None:
    one = box.seal(1, "TCONE", "secret-one")
    two = box.seal(1, "TCTWO", "secret-two")

    for tenant_id, access_key_id, sealed in [
        (1, "TCONE", two),
        (1, "TCTWO", one),
        (2, "TCONE", one),
    ]:
        with pytest.raises(SecretDamaged) as caught:
            box.unseal(tenant_id, access_key_id, sealed)
        assert caught.value.access_key_id == access_key_id


def test_ten_thousand_seals_have_ten_thousand_nonces(box: SecretBox) -> None:
    nonces = {box.seal(1, "TCKEY", SECRET)[1:13] for _ in range(10_000)}

    assert len(nonces) == 10_000


def test_a_box_opens_again_with_its_key_only(box: SecretBox) -> None:
    sealed = box.seal(1, "TCKEY", SECRET)

    assert SecretBox.open([KEY], box.wrapped).unseal(1, "TCKEY", sealed) == SECRET
    with pytest.raises(KeyFileWrong, match=r"/data/master\.key"):
        SecretBox.open([OTHER_KEY], box.wrapped, where="/data/master.key")
    with pytest.raises(KeyFileWrong):
        SecretBox.open([], box.wrapped)


def test_each_flipped_bit_of_a_wrapped_key_is_noticed(box: SecretBox) -> None:
    for position in range(len(box.wrapped)):
        damaged = bytearray(box.wrapped)
        damaged[position] ^= 1
        with pytest.raises((DataKeyDamaged, KeyFileWrong)):
            SecretBox.open([KEY], bytes(damaged))


@given(st.binary(max_size=100))
def test_a_garbled_wrapped_key_is_damaged(garbage: bytes) -> None:
    with pytest.raises(DataKeyDamaged):
        SecretBox.open([KEY], garbage[:50])


def test_rewrapping_changes_the_key_file_and_no_secret() -> None:
    box = SecretBox.create(KEY)
    sealed = box.seal(1, "TCKEY", SECRET)
    old = box.wrapped

    new = box.rewrap(OTHER_KEY)

    assert box.wrapped == new != old
    assert box.is_wrapped_by(OTHER_KEY)
    assert not box.is_wrapped_by(KEY)
    assert SecretBox.open([OTHER_KEY], new).unseal(1, "TCKEY", sealed) == SECRET
    with pytest.raises(KeyFileWrong):
        SecretBox.open([KEY], new)


def test_a_rotation_cut_off_on_either_side_of_its_commit_still_opens() -> None:
    box = SecretBox.create(KEY)
    sealed = box.seal(1, "TCKEY", SECRET)
    before, after = box.wrapped, box.rewrap(OTHER_KEY)

    for wrapped in (before, after):
        opened = SecretBox.open([KEY, OTHER_KEY], wrapped)
        assert opened.unseal(1, "TCKEY", sealed) == SECRET


def test_two_boxes_share_neither_data_key_nor_bytes() -> None:
    one, two = SecretBox.create(KEY), SecretBox.create(KEY)

    assert one.wrapped != two.wrapped
    with pytest.raises(SecretDamaged):
        two.unseal(1, "TCKEY", one.seal(1, "TCKEY", SECRET))


def test_mac_keys_differ_by_purpose_and_survive_restart_and_rotation() -> None:
    box = SecretBox.create(KEY)
    token_key = box.mac_key("continuation-token")

    assert len(token_key) == 32
    assert box.mac_key("upload-id") != token_key
    assert SecretBox.open([KEY], box.wrapped).mac_key("continuation-token") == token_key
    box.rewrap(OTHER_KEY)
    assert box.mac_key("continuation-token") == token_key


def test_no_text_of_a_box_or_its_errors_shows_a_secret(box: SecretBox) -> None:
    sealed = box.seal(1, "TCKEY", SECRET)
    with pytest.raises(SecretDamaged) as caught:
        box.unseal(2, "TCKEY", sealed)

    assert SECRET.encode() not in sealed
    assert SECRET not in str(caught.value)
    assert repr(box) == str(box) == "SecretBox(...)"
    with pytest.raises(TypeError):
        pickle.dumps(box)


def test_randomness_comes_from_whom_it_is_asked_of() -> None:
    asked: list[int] = []

    def count(size: int) -> bytes:
        asked.append(size)
        return os.urandom(size)

    box = SecretBox.create(KEY, random_bytes=count)
    box.seal(1, "TCKEY", SECRET)

    assert asked == [32, 12, 12]
