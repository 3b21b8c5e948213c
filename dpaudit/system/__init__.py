"""What dpaudit asks of the machine and the libraries: signals, processes, progress, network guards,
unforeseen errors.

May import: `errors`, `terminal`, `content`.
"""
