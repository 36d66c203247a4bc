"""Makes a catalog out of the segments alone; see `docs/decisions/0009-manifests.md`."""
