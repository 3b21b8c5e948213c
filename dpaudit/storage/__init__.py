"""The run directory and its files: written whole or not at all, sealed, locked, with the hashes of their
inputs.

May import: the modules at the top, `system`.
"""
