"""Training in plain PyTorch: one loop, one module a model. Runs without Ray; several workers by
torch.distributed."""

#: The parts of a folder that training fills and `recsys.models` reads; USAGE holds the
#: encoder's arguments.
ENCODER, CROSS_ENCODER, INTENT, FUSION, USAGE = (
    "encoder",
    "cross_encoder",
    "intent",
    "fusion.json",
    "encoder.json",
)
USER_MODEL, MIXER = "user_model", "mixer.json"
#: Rankers learned from the feature log, and the examination curve by which their clicks were
#: weighed.
TREES, NET, EXAMINATION = "ranker_trees", "ranker_net", "examination.json"
#: A folder that says why the rankers were published, or were not.
GATE = "gate"
#: What depends on what the encoder makes of the items: a new encoder makes these useless until they
#: are trained again.
OF_THE_ENCODER = (USER_MODEL, MIXER, TREES, NET)
