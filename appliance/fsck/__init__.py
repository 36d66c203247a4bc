"""fsck: catalog and volumes compared both ways while no server runs, explained, and repaired.

Every row of the catalog must have its verified record, every record its row or a place among the
dead. The rules are pure (`segment_rules`, `catalog_rules`); `volume_check` and `check` read,
`repairs` writes, and nothing else does.
"""
