"""Units and heads that run again in backward instead of keeping activations."""
