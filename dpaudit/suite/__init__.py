"""What a user wants of a run: the settings of a suite, the arms that follow, and the dated records of what
was declared.

May import: the modules at the top, `storage`, `data`.
"""
