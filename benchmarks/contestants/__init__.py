"""The contestants: each function runs alone in a fresh worker process and returns what it measured.

`bare` only builds the dict, `append` also keeps it in a list, `flat` is what people write today (a list of dicts with
the outer values repeated, one polars frame, one Parquet file), `flat_schema` the same with the schema spelled out,
`ours` is rigorous_recorder. All of one workload make the same values in the same order. Imports stand before the clock,
for all.
"""
