"""The S3 operations: one module per family, between the wire and the flow of bytes."""
