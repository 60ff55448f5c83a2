"""Parameter-efficient fine-tuning by peft: a few small matrices beside frozen weights, merged into
them for saving."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import nn

from recsys.errors import InputError, NotFoundError

Adapters = Literal["lora", "adalora"]


def adapted(model: Any, adapters: Adapters | None, rank: int = 16, steps: int | None = None) -> Any:
    """A transformers model with adapters of `rank` on all its linear layers, everything else
    frozen; None: the model.

    LoRA (Hu et al., ICLR 2022) scales by 2: alpha is twice the rank. AdaLoRA (Zhang et al., ICLR
    2023) starts at 1.5 times the rank and takes it down to `rank` on average between the first
    tenth and the last third of `steps`, which it has to know."""
    if adapters is None:
        return model
    try:
        import peft
    except ImportError as error:
        raise NotFoundError("adapters need peft: pip install peft") from error
    # Poolers are out: ours is a mean, so they get no gradient, which AdaLoRA cannot bear.
    chosen: dict[str, Any] = {
        "lora_alpha": 2 * rank,
        "target_modules": "all-linear",
        "exclude_modules": r".*pooler.*",
    }
    if adapters == "lora":
        return peft.get_peft_model(model, peft.LoraConfig(r=rank, **chosen))
    if adapters != "adalora":
        raise InputError(f"adapters {adapters!r} are unknown: use lora, adalora or none")
    if steps is None or steps < 10:
        raise InputError(
            f"AdaLoRA over {steps} steps has no time to move its ranks: "
            "give 10 or more, or use lora"
        )
    config = peft.AdaLoraConfig(
        init_r=round(1.5 * rank),
        target_r=rank,
        total_step=steps,
        tinit=steps // 10,
        tfinal=steps // 3,
        deltaT=max(1, steps // 100),
        **chosen,
    )
    return peft.get_peft_model(model, config)


def merged(model: Any) -> Any:
    """The plain model with what its adapters learned; a model without adapters as it is."""
    return model.merge_and_unload() if hasattr(model, "merge_and_unload") else model


def allocators(model: nn.Module) -> list[Any]:
    """The parts that move ranks between layers as training goes on."""
    return [module for module in model.modules() if hasattr(type(module), "update_and_allocate")]


def orthogonality(allocator: Any) -> torch.Tensor:
    """AdaLoRA's regularisation (its eq. 4), averaged over the matrices; peft adds it only to a loss
    of its own."""
    terms = []
    for name, weights in allocator.named_parameters():
        if "lora_A" in name or "lora_B" in name:
            square = weights @ weights.T if "lora_A" in name else weights.T @ weights
            terms.append(torch.linalg.norm(square - torch.eye(len(square), device=square.device)))
    return allocator.peft_config["default"].orth_reg_weight * torch.stack(terms).mean()
