from __future__ import annotations

import functools
from dataclasses import dataclass

import pytest
from prometheus_client.parser import text_string_to_metric_families

from appliance.metrics import CONTENT_TYPE, LABEL_OTHER, OPERATIONS_MAX, TENANTS_MAX, Metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class Inner:
    writes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    total_bytes: int
    free_bytes: int
    is_writable: bool
    name: str
    failed_at: float | None
    device: Inner


def make_figures(free_bytes: int) -> Figures:
    return Figures(
        total_bytes=100,
        free_bytes=free_bytes,
        is_writable=True,
        name="x",
        failed_at=None,
        device=Inner(writes=7),
    )


def read(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
    }


def observe(metrics: Metrics, *, operation: str = "GetObject", tenant: str | None = "acme") -> None:
    metrics.observe_request(operation, 200, tenant, seconds=0.02, bytes_in=3, bytes_out=5)


def test_a_request_is_counted_by_operation_code_and_tenant() -> None:
    metrics = Metrics()
    observe(metrics)
    observe(metrics)

    samples = read(metrics)
    labels = (("code", "200"), ("operation", "GetObject"), ("tenant", "acme"))
    assert samples["thermocline_requests_total", labels] == 2
    assert samples["thermocline_received_bytes_total", (("tenant", "acme"),)] == 6
    assert samples["thermocline_sent_bytes_total", (("tenant", "acme"),)] == 10
    assert samples["thermocline_request_seconds_count", (("operation", "GetObject"),)] == 2
    bucket = (("le", "0.025"), ("operation", "GetObject"))
    assert samples["thermocline_request_seconds_bucket", bucket] == 2


def test_a_request_without_a_tenant_has_an_empty_label() -> None:
    metrics = Metrics()
    observe(metrics, tenant=None)

    labels = (("code", "200"), ("operation", "GetObject"), ("tenant", ""))
    assert read(metrics)["thermocline_requests_total", labels] == 1


def test_labels_are_bounded() -> None:
    metrics = Metrics()
    for number in range(TENANTS_MAX + 50):
        observe(metrics, tenant=f"tenant-{number}")
    for number in range(OPERATIONS_MAX + 50):
        observe(metrics, operation=f"Operation{number}", tenant=None)

    labels = [dict(labels) for name, labels in read(metrics) if name.endswith("_total")]
    assert len({item["tenant"] for item in labels if "tenant" in item}) == TENANTS_MAX + 2
    assert len({item["operation"] for item in labels if "operation" in item}) == OPERATIONS_MAX + 1
    assert LABEL_OTHER in {item.get("tenant") for item in labels}


def test_a_deleted_tenant_leaves_no_series() -> None:
    metrics = Metrics()
    observe(metrics, tenant="acme")
    observe(metrics, tenant="other")

    metrics.forget_tenant("acme")
    metrics.forget_tenant("never-seen")

    assert b'"acme"' not in metrics.render()
    assert b'"other"' in metrics.render()


def test_the_numbers_of_a_record_are_read_at_each_scrape() -> None:
    metrics = Metrics()
    free_bytes = 90
    metrics.watch(
        "volume",
        lambda: make_figures(free_bytes),
        gauges={"total_bytes", "free_bytes", "is_writable"},
        labels={"volume": "ssd0", "tier": "ssd"},
    )
    labels = (("tier", "ssd"), ("volume", "ssd0"))

    assert read(metrics)["thermocline_volume_free_bytes", labels] == 90
    free_bytes = 80
    samples = read(metrics)

    assert samples["thermocline_volume_free_bytes", labels] == 80
    assert samples["thermocline_volume_is_writable", labels] == 1
    assert samples["thermocline_volume_device_writes_total", labels] == 7
    assert not any("name" in name or "failed_at" in name for name, _ in samples)


def test_volumes_share_a_family_and_differ_by_label() -> None:
    metrics = Metrics()
    for name, free_bytes in [("ssd0", 1), ("hdd0", 2)]:
        metrics.watch(
            "volume",
            functools.partial(make_figures, free_bytes),
            gauges={"free_bytes"},
            labels={"volume": name},
        )

    samples = read(metrics)
    assert samples["thermocline_volume_free_bytes", (("volume", "ssd0"),)] == 1
    assert samples["thermocline_volume_free_bytes", (("volume", "hdd0"),)] == 2
    assert metrics.render().count(b"# TYPE thermocline_volume_free_bytes gauge") == 1


@pytest.mark.parametrize("labels", [{"volume": "ssd0"}, {"tier": "ssd"}, None])
def test_two_watches_that_could_not_be_told_apart_are_a_mistake(
    labels: dict[str, str] | None,
) -> None:
    metrics = Metrics()
    metrics.watch("volume", lambda: make_figures(1), labels={"volume": "ssd0"})

    with pytest.raises(AssertionError):
        metrics.watch("volume", lambda: make_figures(1), labels=labels)


def test_a_hostile_tenant_name_forges_no_sample() -> None:
    metrics = Metrics()
    observe(metrics, tenant='a"} 1\nthermocline_forged 1\n#')

    assert ("thermocline_forged", ()) not in read(metrics)


def test_two_registries_are_apart_and_tell_of_the_process() -> None:
    one, two = Metrics(), Metrics()
    observe(one)

    assert b"acme" not in two.render()
    assert b"process_open_fds" in two.render()
    assert CONTENT_TYPE.startswith("text/plain")


def test_what_tenants_hold_replaces_what_they_held() -> None:
    metrics = Metrics()
    metrics.set_tenant_bytes({("acme", "ssd"): 5, ("acme", "hdd"): 7, ("demo", "ssd"): 9})
    metrics.set_tenant_bytes({("acme", "ssd"): 6})

    held = {key: value for key, value in read(metrics).items() if "tenant_logical" in key[0]}
    assert held == {("thermocline_tenant_logical_bytes", (("tenant", "acme"), ("tier", "ssd"))): 6}
    metrics.forget_tenant("acme")
    assert not [key for key in read(metrics) if "acme" in str(key)]


def test_tenants_beyond_the_bound_hold_what_they_hold_together() -> None:
    metrics = Metrics()
    metrics.set_tenant_bytes({(f"t{number}", "ssd"): 1 for number in range(TENANTS_MAX + 5)})

    others = (("tenant", LABEL_OTHER), ("tier", "ssd"))
    assert read(metrics)["thermocline_tenant_logical_bytes", others] == 5
