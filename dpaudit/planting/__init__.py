"""Canaries for data that is trained on elsewhere, their disguises, and the audit key.

May import: the modules at the top, `storage`, `stats`, `data`, `signals`.
"""
