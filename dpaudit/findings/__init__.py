"""What stages hand to each other: frozen dataclasses, one file of JSON each, with the version of its format.

Imports errors, schema and storage: no stage, no statistics.
"""
