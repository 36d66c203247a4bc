"""A volume that is emptied gets nothing new, from moves either."""

from __future__ import annotations

from tests.unit.tiers.movers import HDD, HDD_TWO, make_devices, open_bench
from tiers.move_plan import Obstacle


async def test_nothing_is_moved_to_a_volume_that_is_emptied() -> None:
    bench = await open_bench(make_devices(count=3))
    [page] = await bench.put(5000)
    bench.store.bar([HDD, HDD_TWO])

    [refused] = (await bench.mover.run_batch([bench.order(page)])).outcomes
    assert refused.obstacle is Obstacle.TARGET
    assert refused.detail == "volume 2: it is emptied; volume 3: it is emptied"
    bench.store.bar([HDD])
    assert (await bench.mover.run_batch([bench.order(page)])).moved_pages == 1
    assert (await bench.places(page))[0].volume_id == HDD_TWO
