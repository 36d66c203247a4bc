"""All routes of the admin API, noun by noun."""

from __future__ import annotations

from appliance.admin import (
    buckets,
    catalog,
    drains,
    keys,
    policies,
    quotas,
    reports,
    scrub,
    status,
    tenants,
    tiering,
    usage,
    users,
    volumes,
)

__all__ = ["ROUTES"]

ROUTES = (
    *tenants.ROUTES,
    *users.ROUTES,
    *keys.ROUTES,
    *buckets.ROUTES,
    *quotas.ROUTES,
    *usage.ROUTES,
    *reports.ROUTES,
    *volumes.ROUTES,
    *drains.ROUTES,
    *scrub.ROUTES,
    *policies.ROUTES,
    *tiering.ROUTES,
    *catalog.ROUTES,
    *status.ROUTES,
)
