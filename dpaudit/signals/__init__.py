"""Membership signals and extraction measures as pure functions, and the recipes that name them.

May import: the modules at the top, `stats`, `data`, `suite`.
"""
