"""Mechanisms, what they spend, and the ledger of an arm.

May import: the modules at the top, `system`, `storage`, `stats`.
"""
