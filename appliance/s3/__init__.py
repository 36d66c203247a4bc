"""The S3 wire, sans-IO: routing, signatures, framing, XML, conditions, ranges, listing.

Nothing here awaits, reads a clock, draws randomness or logs.
"""
