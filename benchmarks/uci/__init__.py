"""UCI regression by the protocol of Gal & Ghahramani (2016), and by our own defaults.

    layout ─▶ protocols ─▶ stack, train ─▶ score ─▶ records ─▶ document
    (folder)  (grid, choice) (all nets at once)  (mcdrop)   (JSON lines)  (docs/uci.md)

Every split and every point of a grid is a net of its own; they are trained together, as stacks of
matrices. `python -m benchmarks.uci --data DIR --sets NAME …` runs it.
"""
