"""Checks on a real GPU what this package predicts and promises.

``parts`` says what is run, in order of importance; ``runner`` runs each part in a
process of its own and continues where an earlier call was stopped; ``report`` writes
the page. Reached by ``tools/gpu_proof.py``.
"""
