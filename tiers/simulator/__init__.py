"""What a policy would have done with recorded traffic: traces through the production decisions.

No volume, no catalog, no clock: `trace_formats` reads, `trace` holds, `baselines` are what others
do, `replay` runs them all over the same accesses, `chart` draws.
"""
