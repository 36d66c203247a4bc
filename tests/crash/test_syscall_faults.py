"""Whatever a system call answers, a success is true and everything else is an error.

One server goes through the whole table, so that faults meet what earlier ones left.
`make syscall-faults` runs the whole matrix.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.crash.strace import require_strace
from tests.crash.syscall_faults import SHORT_TABLE, Fault, FaultBench

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.client, pytest.mark.slow, pytest.mark.direct_io]

SEED = 7


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultBench]:
    """One appliance for the table."""
    require_strace()
    made = FaultBench(tmp_path_factory.mktemp("faults"), seed=SEED)
    yield made
    made.close()


@pytest.mark.parametrize("fault", SHORT_TABLE, ids=str)
def test_a_success_is_true_and_nothing_acknowledged_is_lost(
    bench: FaultBench, fault: Fault
) -> None:
    bench.run(fault)
    if not bench.server.is_running or fault is SHORT_TABLE[-1]:
        bench.restart()
