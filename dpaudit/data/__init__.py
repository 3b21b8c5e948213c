"""Reading and checking dialogues; canaries, personal data, near-duplicates, and the synthetic clinic.

May import: the modules at the top, `system`.
"""
