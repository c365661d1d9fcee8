"""The server under load: beside LitServe, mixed, overloaded, for a long time, and at set rates.

    nets ─▶ questions ─▶ load (own process) ─▶ outcomes ─▶ check, figures ─▶ document
                 ╰▶ servers: `python -m service` and litserve_app ◀╯  (HTTP and nothing else)

`versus`, `mixed`, `overload`, `soak` and `rates` are the scenarios, `tuning` finds LitServe's best
settings; `python -m benchmarks.serving --only mlp,digits,…` runs them.
"""
