from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from appliance.key_file import (
    begin_rotation,
    cancel_rotation,
    create_key_file,
    finish_rotation,
    load_key,
    load_keys,
)
from appliance.secrets import KeyFileWrong, SecretBox

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "master.key"


def test_a_new_key_file_belongs_to_its_owner_alone_and_reads_back(path: Path) -> None:
    key = create_key_file(path)

    assert path.stat().st_mode & 0o7777 == 0o600
    assert load_key(path) == key
    assert len(key) == 32
    assert [item.name for item in path.parent.iterdir()] == ["master.key"]


def test_the_mode_does_not_depend_on_the_umask(path: Path) -> None:
    before = os.umask(0)
    try:
        create_key_file(path)
    finally:
        os.umask(before)

    assert path.stat().st_mode & 0o7777 == 0o600


def test_a_key_that_is_there_is_never_replaced(path: Path) -> None:
    key = create_key_file(path)

    with pytest.raises(KeyFileWrong, match="cannot be made"):
        create_key_file(path)
    assert load_key(path) == key


def test_what_a_cut_off_creation_left_does_not_stop_the_next(path: Path) -> None:
    path.with_name("master.key.part").write_text("thermocline-")

    key = create_key_file(path)

    assert load_keys(path) == (key,)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o660, 0o604, 0o700, 0o666, 0o4600])
def test_a_key_file_that_others_could_touch_is_refused(path: Path, mode: int) -> None:
    create_key_file(path)
    path.chmod(mode)

    with pytest.raises(KeyFileWrong, match="must have 0600"):
        load_key(path)


def test_a_read_only_key_file_is_good(path: Path) -> None:
    key = create_key_file(path)
    path.chmod(0o400)

    assert load_key(path) == key


def test_a_key_file_of_another_user_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create_key_file(path)
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)

    with pytest.raises(KeyFileWrong, match="belongs to user"):
        load_key(path)


def test_a_missing_key_file_is_refused(path: Path) -> None:
    with pytest.raises(KeyFileWrong, match="No such file"):
        load_keys(path)


def test_a_directory_in_its_place_is_refused(path: Path) -> None:
    path.mkdir()

    with pytest.raises(KeyFileWrong):
        load_key(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"thermocline-key-1",
        b"thermocline-key-1 ",
        b"thermocline-key-2 " + b"QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY=",
        b"QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY=",
        b"thermocline-key-1 QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZW",
        b"thermocline-key-1 QUJD!!!",
        b"thermocline-key-1 " + b"\xff" * 44,
        b"x" * 5_000,
        bytes(range(128, 160)),
    ],
)
def test_what_is_no_key_file_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    path.chmod(0o600)

    with pytest.raises(KeyFileWrong, match="is not a key file"):
        load_key(path)


@pytest.mark.parametrize("key", [b"\x00" * 32, b"\xff" * 32, b"abcd" * 8])
def test_a_key_that_is_not_random_is_refused(path: Path, key: bytes) -> None:
    with pytest.raises(KeyFileWrong, match="no random key"):
        create_key_file(path, random_bytes=lambda _size: key)


def test_every_truncation_of_a_key_file_is_refused(path: Path) -> None:
    create_key_file(path)
    content = path.read_bytes().strip()

    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(KeyFileWrong):
            load_key(path)


def test_a_catalog_opens_after_each_step_of_a_rotation(path: Path) -> None:
    box = SecretBox.create(create_key_file(path))
    sealed = box.seal(1, "TCKEY", "a secret of the tenant")
    stored = box.wrapped

    def open_again() -> SecretBox:
        opened = SecretBox.open(load_keys(path), stored)
        assert opened.unseal(1, "TCKEY", sealed) == "a secret of the tenant"
        return opened

    new_key = begin_rotation(path)
    assert not open_again().is_wrapped_by(new_key)
    stored = box.rewrap(new_key)
    assert open_again().is_wrapped_by(new_key)
    finish_rotation(path)
    open_again()
    assert load_keys(path) == (new_key,)


def test_a_rotation_that_never_reached_the_catalog_can_be_dropped(path: Path) -> None:
    key = create_key_file(path)
    begin_rotation(path)

    cancel_rotation(path)

    assert load_keys(path) == (key,)
    cancel_rotation(path)
    begin_rotation(path)


def test_two_rotations_at_once_are_refused(path: Path) -> None:
    create_key_file(path)
    begin_rotation(path)

    with pytest.raises(KeyFileWrong, match="cannot be made"):
        begin_rotation(path)


def test_a_rotation_needs_a_key_to_rotate_and_one_to_finish(path: Path) -> None:
    with pytest.raises(KeyFileWrong):
        begin_rotation(path)
    create_key_file(path)
    with pytest.raises(KeyFileWrong, match="cannot be exchanged"):
        finish_rotation(path)


def test_a_directory_that_is_gone_is_told_in_words(tmp_path: Path) -> None:
    with pytest.raises(KeyFileWrong):
        create_key_file(tmp_path / "gone" / "master.key")
    with pytest.raises(KeyFileWrong, match="cannot be removed"):
        cancel_rotation(tmp_path / "gone" / "master.key")
