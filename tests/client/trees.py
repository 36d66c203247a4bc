"""Directory trees for backup clients: made from a seed, and compared byte for byte."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["assert_same_tree", "make_small_files", "make_tree", "pseudo_bytes"]


def pseudo_bytes(seed: str, length: int) -> bytes:
    """Incompressible bytes that only the seed decides."""
    return hashlib.shake_128(seed.encode()).digest(length)


def make_tree(root: Path, *, large_bytes: int = 24 * 1024 * 1024) -> None:
    """A tree as people back up: odd names, empty and large files, depth."""
    files = {
        "empty": 0,
        "one": 1,
        "page-exact": 4 * 1024 * 1024,
        "page-and-one": 4 * 1024 * 1024 + 1,
        "large": large_bytes,
        "with space + plus %41 percent": 1000,
        "ünïcode/Ä ö\U0001f600": 2000,
        "deep/er/and/deeper/file.txt": 3000,
        ".hidden/.file": 10,
        "tick'quote\"&<>": 77,
    }
    for name, length in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pseudo_bytes(name, length))
        os.utime(path, (1_700_000_000, 1_700_000_000.25))


def make_small_files(root: Path, count: int) -> None:
    """Many small files in a hundred directories."""
    for number in range(count):
        path = root / f"{number % 100:02}" / f"{number:06}.dat"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pseudo_bytes(str(number), number % 257))


def assert_same_tree(found: Path, expected: Path) -> None:
    """Both trees hold the same files with the same bytes."""
    assert digest_tree(found) == digest_tree(expected)


def digest_tree(root: Path) -> dict[str, str]:
    """Relative path and digest of every file."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }
