"""From a finished report to HTML: sections, figures, number formats, tables of the terminal.

May import: the modules at the top.
"""
