"""How fast a scrub reads, and when its next pass begins. Pure.

The promise is about a page, not about a pass: whatever rots is found within the period. A page that
one pass looked at first and the next one looks at last waits for both of them. So a pass begins
every half period and is planned to end within half a period.
"""

from __future__ import annotations

__all__ = ["PASS_SHARE", "RATE_FLOOR_BYTES_PER_S", "find_next_start", "plan_rate"]

PASS_SHARE = 0.5  # of the period: two passes in a row fit
LATE_SHARE = 0.05  # of the period: over how long a pass that is late spreads what is left
RATE_FLOOR_BYTES_PER_S = 1024 * 1024  # nothing to a disk, and a small volume is done in a day


def plan_rate(
    *,
    live_bytes: int,
    remaining_bytes: int,
    period_s: float,
    elapsed_s: float,
    rate_max: float,
) -> float:
    """Bytes a second to read from here on.

    Example: 16 TiB with 30 days are 13.6 MB/s; if after 10 days 8 TiB are left instead of 5.3, the
    remaining 5 days need 20.4 MB/s.

    Args:
        live_bytes: Length of all records of the pass, seen or not.
        remaining_bytes: Of those not seen yet.
        period_s: Within which every page is to be looked at.
        elapsed_s: Since the pass began.
        rate_max: Never more than this, even if the pass ends late.
    """
    assert period_s > 0
    assert rate_max > 0
    share_s = period_s * PASS_SHARE
    left_s = max(share_s - elapsed_s, period_s * LATE_SHARE)
    wanted = max(live_bytes / share_s, remaining_bytes / left_s, RATE_FLOOR_BYTES_PER_S)
    return min(wanted, rate_max)


def find_next_start(*, started_us: int | None, period_s: float, now_us: int) -> int:
    """When the next pass is to begin, microseconds since 1970; `now_us` where one is due.

    Args:
        started_us: When the last one began, None where there was none.
        period_s: Within which every page is to be looked at.
        now_us: The wall clock.
    """
    if started_us is None or started_us > now_us:
        # A start in the future means that the clock was set back: do not wait for it to return.
        return now_us
    return max(now_us, started_us + round(period_s * PASS_SHARE * 1_000_000))
