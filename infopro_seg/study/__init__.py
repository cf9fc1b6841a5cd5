"""Methods side by side on one data set, paired over seeds.

``matrix`` reads the study file; ``job`` makes the config of a run, ``start`` its
initial weights; ``runner`` trains what is not done yet; ``rows`` keeps one file for
each finished run; ``summary`` computes from these files alone, and ``page`` writes the
report. Reached by ``tools/study.py``.
"""
