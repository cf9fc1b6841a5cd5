"""Surveys of mmseg's own configs as local modules: support and memory."""
