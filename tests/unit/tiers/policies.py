"""A policy file with everything in it, and ways to change it."""

from __future__ import annotations

__all__ = ["FULL", "changed"]

FULL = """\
version = 1

[[tier]]
name = "ssd"
kind = "pages"
storage_class = "STANDARD"
keep_free_space = "5%"
write_budget_per_day = "2TiB"

[[tier]]
name = "hdd"
kind = "pages"
storage_class = "STANDARD_IA"
run_size = "64MiB"

[heat]
half_life = "3d"
coalesce = "60s"
write_heat = 1.0
sequential = { cutoff = "32MiB", weight = 0.0, promote_after_scans = 3 }

[budget]
foreground_p99_slowdown_max = 1.05
hdd_bytes_per_sec = "auto"
ssd_write_bytes_per_sec = "200MiB"
max_inflight = 4
io_size = "4MiB"

[[window]]
name = "night"
cron = "0 22 * * *"
duration = "7h"
tz = "Europe/Berlin"
hdd_bytes_per_sec = "unlimited"

[[rule]]
id = "pin-wal"
filter = { tenant = "acme", bucket = "db", prefix = "wal/" }
pin = "ssd"
pin_limit = "200GiB"

[[rule]]
id = "tmp"
filter = { prefix = "tmp/", object_size_greater_than = "4MiB" }
exclude = true

[[rule]]
id = "old-90d"
filter = { tag = { retention = "cold" } }
from_pool = "ssd"
to_pool = "hdd"
transition_days = 90
object_size_greater_than = "128KiB"
window = "night"

[[rule]]
id = "demote"
from_pool = "ssd"
to_pool = "hdd"
threshold = { high = 0.85, low = 0.75, premigrate = 0.65 }
weight = "-heat"
min_age = "1h"
cooling = "6h"
limit = 0.95

[[rule]]
id = "promote"
filter = { tag = { retention = "hot" } }
from_pool = "hdd"
to_pool = "ssd"
insertion_threshold = 2
ghost = "2.0x"
hysteresis = 0.25
stop_above = 0.90
min_residency = "1h"

[[rule]]
id = "default"
filter = {}
managed = true
"""


def changed(*changes: tuple[str, str]) -> bytes:
    """The full file with pieces replaced, each of which it must hold."""
    text = FULL
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new, 1)
    return text.encode()
