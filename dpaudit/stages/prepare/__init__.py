"""Stage prepare: the corpus, the canaries and their coins.

May import: every room below `stages`, and of the stages those before it.
"""
