"""Bytes at aligned offsets on devices: the bottom of the appliance.

This package knows devices, aligned buffers, direct I/O and the record format. It knows nothing of
tiers, tenants, SQL or HTTP.
"""
