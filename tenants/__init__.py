"""Who may do what, and how much: tenants, users, access keys, names, grants, quotas.

Pure rules and records. This package knows nothing of devices, tiers, SQL, HTTP or trio.
"""
