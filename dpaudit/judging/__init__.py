"""Rubrics, a judge's passport, paired quality figures, ROUGE-L and fields of free answers, the scorecard.

May import: the modules at the top, `stats`, `data`, `suite`.
"""
