"""Where a trained network loses information, and where local gradients go.

A probe is a local head trained on a map of a frozen network. ``network`` loads what is
probed, ``probes`` trains the heads, ``scores`` turns their errors into bits;
``gradients`` compares the gradients of local heads with end-to-end ones, ``results``
writes the report. Not to be confused with `infopro_seg.models.probe`, which finds the
shapes of maps. Reached by ``tools/probe.py``.
"""
