"""A simulated market with known ground truth, shoppers with click models, and load over HTTP."""
