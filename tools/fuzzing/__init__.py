"""A mutational fuzzer of the appliance's parsers; `tools/fuzz.py` is its command line."""
