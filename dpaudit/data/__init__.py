"""Dialogues: read, checked, told apart; canaries, personal data, near-duplicates, and the synthetic clinic.

May import: the modules at the top, `system`.
"""
