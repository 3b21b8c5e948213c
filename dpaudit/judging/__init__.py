"""Rubrics, a judge's passport, and paired quality figures.

May import: the modules at the top, `stats`, `data`, `suite`.
"""
