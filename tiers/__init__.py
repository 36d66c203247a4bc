"""Where pages live and when they move.

This package knows tiers, placement and reclaim. It knows nothing of tenants' rules, SQL or HTTP: it
gets facts as plain values and states what it needs of a catalog in `tiers.ports`.
"""
