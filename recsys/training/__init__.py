"""Training in plain PyTorch: one loop, one module a model. Runs without Ray; several workers by torch.distributed."""
