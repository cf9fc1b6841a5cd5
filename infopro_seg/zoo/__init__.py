"""What mmseg's own configs are worth as local modules: support and memory."""
