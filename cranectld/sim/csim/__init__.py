"""`csim`: replays a trace through the exact policies of the core, and compares them.

`trace` reads, `workload` filters, `replay` runs, `measures` sums up, `report` prints, `chart` and
`plot` draw.
"""
