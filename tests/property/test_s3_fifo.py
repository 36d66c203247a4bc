"""Whatever is put and asked for in whatever order: the bound holds, and a hit is what was put."""

from __future__ import annotations

from hypothesis import given, strategies
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from appliance.objects.s3_fifo import GHOST_BYTES, GHOST_SHARE, GHOSTS_MIN, S3Fifo

KEYS = strategies.integers(min_value=0, max_value=40)


class FifoMachine(RuleBasedStateMachine):
    @initialize(room=strategies.sampled_from([0, 1, 500, 5_000, 50_000]))
    def make(self, room: int) -> None:
        self.room = room
        self.fifo = S3Fifo[tuple[int, int]](room)
        self.put_values: dict[int, tuple[int, int]] = {}
        self.serial = 0

    @rule(key=KEYS, weight=strategies.integers(min_value=1, max_value=6_000))
    def put(self, key: int, weight: int) -> None:
        self.serial += 1
        was_held, was_remembered = self.fifo.holds(key), self.fifo.remembers(key)
        is_put = self.fifo.put(key, (key, self.serial), weight)
        assert is_put == (not was_held and weight <= self.room)
        if is_put:
            self.put_values[key] = (key, self.serial)
            assert self.fifo.holds(key)
            assert not self.fifo.remembers(key)
        elif not was_held:
            assert self.fifo.remembers(key) == was_remembered

    @rule(key=KEYS)
    def find(self, key: int) -> None:
        found = self.fifo.find(key)
        assert (found is not None) == self.fifo.holds(key)
        assert found is None or found == self.put_values[key]

    @rule(key=KEYS)
    def remember(self, key: int) -> None:
        self.fifo.remember(key)
        assert not (self.fifo.holds(key) and self.fifo.remembers(key))

    @invariant()
    def the_bound_holds(self) -> None:
        found = self.fifo.statistics()
        assert 0 <= found.held_bytes <= self.room
        assert found.ghost_count <= max(GHOSTS_MIN, found.held_count)
        assert found.ghost_count * GHOST_BYTES * GHOST_SHARE <= self.room
        assert found.held_bytes >= found.held_count + GHOST_BYTES * found.ghost_count


TestFifo = FifoMachine.TestCase


@given(strategies.integers(min_value=30, max_value=2_000))
def test_what_is_asked_for_once_passes_through_a_tenth_of_the_room(count: int) -> None:
    room = 100_000
    fifo = S3Fifo[int](room)
    hot = range(1_000_000, 1_000_050)
    for key in hot:
        fifo.put(key, key, 1_000)
    for _ in range(2):
        for key in hot:
            fifo.find(key)

    for key in range(count):
        fifo.put(key, key, 1_000)

    assert all(fifo.find(key) == key for key in hot)
    # They have what nobody else wants, and no more.
    assert sum(fifo.holds(key) for key in range(count)) <= 50


def test_what_comes_back_while_it_is_remembered_stays() -> None:
    fifo = S3Fifo[int](100_000)
    for key in range(200):
        fifo.put(key, key, 1_000)
    gone = next(key for key in range(200) if fifo.remembers(key))

    fifo.put(gone, gone, 1_000)
    for key in range(1_000, 1_050):
        fifo.put(key, key, 1_000)

    assert fifo.find(gone) == gone
