"""A worker stops before anybody may fence it, whatever its clock, the way and its luck are like."""

from __future__ import annotations

from hypothesis import given, strategies as st

from appliance.lease_rules import LEASE_TERMS, LeaseTerms, LeaseTimer

TERMS = LeaseTerms(lease_s=45.0, renew_every_s=5.0, retry_after_s=1.0, margin_s=5.0)
# A clock that is off by a twentieth is broken; the margin of 5 s in 45 bears more than that.
RATES = st.floats(0.95, 1.05)
# How long a renewal is on its way there and back, in true seconds, and whether it arrives.
TRIES = st.lists(
    st.tuples(st.floats(0, 60), st.floats(0, 60), st.booleans()), min_size=1, max_size=30
)


@given(rate=RATES, start=st.floats(-1e6, 1e6), tries=TRIES)
def test_a_worker_that_may_go_on_has_a_lease(
    rate: float, start: float, tries: list[tuple[float, float, bool]]
) -> None:
    """`rate`: how fast the worker's monotonic clock runs; the database's keeps true time."""
    true_s = 0.0
    timer = LeaseTimer(TERMS, asked_at=start)
    ends_at = TERMS.lease_s  # by the database, which heard of it no earlier than it was asked
    for there_s, back_s, arrives in tries:
        local = start + true_s * rate
        true_s += max(timer.next_at - local, 0.0) / rate
        local = start + true_s * rate
        if timer.must_stop(local):
            assert true_s < ends_at
            return
        asked_at = local
        if arrives and true_s + there_s < ends_at:
            ends_at = max(ends_at, true_s + there_s + TERMS.lease_s)
        # The worker waits for no answer for longer than it may go on.
        patience_s = (timer.stops_at - local) / rate
        is_answered = arrives and there_s + back_s < patience_s
        true_s += min(there_s + back_s, patience_s)
        if is_answered:
            timer.note_renewed(asked_at=asked_at)
        else:
            timer.note_failed(now=start + true_s * rate)
        assert true_s < ends_at, "it ends itself in time, whether it goes on or not"


@given(failures=st.integers(0, 50))
def test_a_worker_asks_again_soon_and_never_later_than_it_stops(failures: int) -> None:
    timer = LeaseTimer(LEASE_TERMS, asked_at=0.0)
    now = 0.0
    for _ in range(failures):
        assert now <= timer.next_at <= timer.stops_at
        now = timer.next_at
        if timer.must_stop(now):
            break
        timer.note_failed(now=now)
    assert timer.must_stop(timer.stops_at)
    if now < timer.stops_at:
        timer.note_renewed(asked_at=now)
        assert timer.next_at == now + LEASE_TERMS.renew_every_s
