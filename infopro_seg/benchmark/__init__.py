"""Time and memory of training methods, side by side on one network.

``methods`` says what is compared, ``steps`` runs it, ``largest`` asks the planner what
fits a GPU. `infopro_seg.report` writes the tables. Reached by ``tools/benchmark.py``.
"""
