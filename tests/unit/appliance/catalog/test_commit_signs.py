"""The signs by which processes on one SQLite catalog tell each other of their commits."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from appliance.catalog import commit_signs
from appliance.catalog.commit_signs import PLACES_MAX, CommitSigns
from appliance.catalog.errors import CatalogBusy
from appliance.worker_place import WORKERS_MAX

if TYPE_CHECKING:
    from collections.abc import Iterator

HOLDER = (
    "import sys; from pathlib import Path\n"
    "from appliance.catalog.commit_signs import CommitSigns\n"
    "signs = CommitSigns(Path(sys.argv[1]), place=int(sys.argv[2]))\n"
    "signs.raise_sign()\n"
    "print('held', flush=True)\n"
    "sys.stdin.read()\n"
)


def test_there_is_a_place_for_every_worker() -> None:
    assert PLACES_MAX >= WORKERS_MAX


@pytest.mark.parametrize("places", [(0, 1), (1, 0), (5, PLACES_MAX - 1)])
def test_a_commit_of_another_changes_what_was_read(tmp_path: Path, places: tuple[int, int]) -> None:
    with (
        closing(CommitSigns(tmp_path / "c", place=places[0])) as own,
        closing(CommitSigns(tmp_path / "c", place=places[1])) as other,
    ):
        noted = own.read()
        assert own.is_quiet(noted)

        other.raise_sign()
        during = own.read()
        assert during != noted
        assert not own.is_quiet(during)

        other.lower_sign()
        after = own.read()
        assert own.is_quiet(after)
        assert len({noted, during, after}) == 3


def test_ones_own_commit_changes_nothing_for_oneself(tmp_path: Path) -> None:
    with closing(CommitSigns(tmp_path / "c", place=3)) as own:
        noted = own.read()
        own.raise_sign()
        assert own.read() == noted
        own.lower_sign()
        assert own.read() == noted


def test_who_dies_in_a_commit_keeps_others_from_keeping_until_it_is_followed(
    tmp_path: Path,
) -> None:
    with closing(CommitSigns(tmp_path / "c", place=0)) as own:
        noted = own.read()
        with held_by_another(tmp_path / "c", 1):
            pass
        assert not own.is_quiet(own.read())

        with closing(CommitSigns(tmp_path / "c", place=1)):
            assert own.is_quiet(own.read())
            assert own.read() != noted


def test_a_place_is_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit_signs, "_PLACE_WAIT_S", 0.1)
    with held_by_another(tmp_path / "c", 2):
        with pytest.raises(CatalogBusy, match="another server's worker has place 2"):
            CommitSigns(tmp_path / "c", place=2)
        CommitSigns(tmp_path / "c", place=1).close()
    CommitSigns(tmp_path / "c", place=2).close()


@contextmanager
def held_by_another(database: Path, place: int) -> Iterator[None]:
    """A process that begins a commit at that place and is killed at the end of the block."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(database), str(place)],
        cwd=Path(__file__).parents[4],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield
        finally:
            process.kill()
