"""Language models: the only room that opens weights. Loading, LoRA layers, adapters, servers, generation,
benchmarks.

May import: every room below, from `system` to `planting`; not `training`.
"""
