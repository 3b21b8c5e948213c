"""Stage audit: scores and coins joined into bounds and verdicts.

May import: every room below `stages`, and of the stages those before it.
"""
