"""SASRec (Kang & McAuley 2018): a causal transformer over a user's events, in one space with the
items; with content features, event types and time gaps as further inputs.

Legend: B users, L events, I items, C content features, D dimensions, h heads."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from recsys.types import EVENT_TYPES

#: Buckets of time gaps, each a doubling of a minute: the last begins after eight years.
GAPS = 24
MINUTES_A_DAY = 1440.0
#: Amazon Beauty, validation recall@10: 1 gives .133, 2 .136, 4 .135.
CONTENT_SCALE = 2.0


@dataclass(frozen=True, kw_only=True)
class SequenceConfig:
    """Hyperparameters of the network: `content` features an item; the newest `length` events are
    its input."""

    content: int
    dim: int = 256
    layers: int = 2
    heads: int = 2
    length: int = 50
    dropout: float = 0.5


class SASRec(nn.Module):
    """The projection W of content features, and the encoder of histories."""

    def __init__(self, config: SequenceConfig) -> None:
        super().__init__()
        self.config = config
        self.project = nn.Linear(config.content, config.dim, bias=False)
        self.types = nn.Embedding(len(EVENT_TYPES), config.dim)
        self.gaps = nn.Embedding(GAPS, config.dim)
        self.drop = nn.Dropout(config.dropout)
        self.enter, self.leave = nn.LayerNorm(config.dim), nn.LayerNorm(config.dim)
        self.blocks = nn.ModuleList([TransformerBlock(config) for _ in range(config.layers)])
        for table in (self.types, self.gaps):
            nn.init.normal_(table.weight, std=0.02)

    def project_content(self, content_IC: Tensor) -> Tensor:
        """[I, D]: item vectors by content alone."""
        return self.project(CONTENT_SCALE * content_IC)

    def forward(self, items_BLD: Tensor, types_BL: Tensor, days_BL: Tensor) -> Tensor:
        """[B, L, D]: the user after each event. Padding is at the end, where no event attends to
        it."""
        gaps_BL = torch.cat([torch.zeros_like(days_BL[:, :1]), days_BL.diff(dim=1)], dim=1)
        context_BLD = self.types(types_BL) + self.gaps(gap_buckets(gaps_BL))
        scale = math.sqrt(self.config.dim)
        states_BLD = self.enter(self.drop(items_BLD * scale + context_BLD))
        for block in self.blocks:
            states_BLD = block(states_BLD)
        return self.leave(states_BLD)


class TransformerBlock(nn.Module):
    """Causal self-attention with a learned bias by distance, then a feed-forward network
    (pre-LN)."""

    def __init__(self, config: SequenceConfig) -> None:
        super().__init__()
        dim = config.dim
        self.heads, self.dropout = config.heads, config.dropout
        self.before, self.between = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.distance = nn.Parameter(torch.zeros(config.heads, config.length))
        self.feed = nn.Sequential(
            nn.Linear(dim, 4 * dim),
            nn.GELU(),
            nn.Dropout(config.dropout),
            nn.Linear(4 * dim, dim),
        )
        self.drop = nn.Dropout(config.dropout)

    def forward(self, states_BLD: Tensor) -> Tensor:
        batch, length, dim = states_BLD.shape
        positions_L = torch.arange(length, device=states_BLD.device)
        distance_LL = positions_L[:, None] - positions_L[None]
        bias_hLL = self.distance[:, distance_LL.clamp(min=0)]
        bias_hLL = bias_hLL.masked_fill(distance_LL < 0, -math.inf)
        by_head = (batch, length, 3, self.heads, dim // self.heads)
        q, k, v = self.qkv(self.before(states_BLD)).view(by_head).permute(2, 0, 3, 1, 4)
        mixed_BhLd = functional.scaled_dot_product_attention(
            q, k, v, bias_hLL[None].to(q.dtype), self.dropout if self.training else 0.0
        )
        mixed_BLD = mixed_BhLd.transpose(1, 2).reshape(batch, length, dim)
        states_BLD = states_BLD + self.drop(self.out(mixed_BLD))
        return states_BLD + self.drop(self.feed(self.between(states_BLD)))


def gap_buckets(days: Tensor) -> Tensor:
    """floor(log2(1 + minutes)); 0 for two events at the same time."""
    return torch.log2(1 + days.clamp(min=0) * MINUTES_A_DAY).long().clamp(max=GAPS - 1)
