"""Training in plain PyTorch: one loop, one module a model. Runs without Ray; several workers by torch.distributed."""

#: The parts of a folder that training fills and `recsys.models` reads; USAGE holds the encoder's arguments.
ENCODER, CROSS_ENCODER, INTENT, FUSION, USAGE = "encoder", "cross_encoder", "intent", "fusion.json", "encoder.json"
