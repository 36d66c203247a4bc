"""The appliance: S3 wire, catalog, flow of bytes, admin API, command line, wiring."""
