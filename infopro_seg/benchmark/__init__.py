"""Time and memory of training methods, side by side on one network.

``methods`` says what is compared, ``steps`` runs it, ``largest`` asks the planner what
would fit a card, ``report`` writes tables. Reached by ``tools/benchmark.py``.
"""
