"""A Hugging Face model, opened to be used."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def opened(kind: Any, folder: Path, device: str | None = None, threads: int | None = None) -> Any:
    """The folder's model as `kind`, one of transformers' Auto classes: bf16 on a GPU, fp32 on a CPU, in eval mode.

    `device` is a GPU where there is one; `threads` bounds torch's CPU threads in this process.
    """
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.bfloat16 if device.startswith("cuda") else torch.float32
    return kind.from_pretrained(folder, dtype=dtype).eval().to(device)
