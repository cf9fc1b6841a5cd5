"""Local heads: what a module reconstructs and predicts from its own output."""
