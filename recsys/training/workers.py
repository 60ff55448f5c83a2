"""One process or several: the few facts of `torch.distributed` that training needs."""

from __future__ import annotations

from typing import Any

from torch import distributed as dist
from torch import nn


def workers() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """0 for the first worker, which validates and writes; also where there is only one."""
    return dist.get_rank() if workers() > 1 else 0


def from_first(value: Any) -> Any:
    """The first worker's value, on every worker; what the others bring is dropped."""
    box = [value]
    if workers() > 1:
        dist.broadcast_object_list(box, 0)
    return box[0]


def share_weights(model: nn.Module) -> None:
    """Every worker's weights become the first's."""
    if workers() > 1:
        for tensor in model.state_dict().values():
            dist.broadcast(tensor, 0)
