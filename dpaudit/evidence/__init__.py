"""From guesses to a verdict: claims, bounds, power, controls, blind baselines. A verdict is decided in
`verdict`.

May import: the modules at the top, `stats`, `data`, `privacy`, `suite`.
"""
