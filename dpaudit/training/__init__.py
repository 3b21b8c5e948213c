"""Private training of adapters: units, sampler, clip, noise, losses, steps, guards; the same engine without a
model.

May import: `models` and every room below it.
"""
