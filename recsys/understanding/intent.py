"""Intent classification: a fine-tuned encoder, a linear head, calibrated probabilities, and a
threshold below which the intent is none of the classes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from recsys.encoders.transformer import TransformerEncoder
from recsys.errors import NotFoundError
from recsys.types import Floats

LABELS, HEAD = "labels.json", "head.safetensors"


class IntentClassifier:
    """The classifier that `training.classifier.train_classifier` saved to a folder; the same code
    evaluates it and serves it.

    The constructor reads labels.json; the model is loaded by the first text. `device`, `batch_size`
    and `threads` as in `TransformerEncoder`. Raises NotFoundError for a folder without a
    classifier."""

    def __init__(
        self,
        folder: str | Path,
        device: str | None = None,
        batch_size: int = 64,
        threads: int | None = None,
    ) -> None:
        self.folder = Path(folder)
        if not (self.folder / LABELS).exists():
            raise NotFoundError(
                f"{folder} has no {LABELS}: name a folder that train_classifier wrote"
            )
        self.description = json.loads((self.folder / LABELS).read_text(encoding="utf-8"))
        self.classes: list[str] = self.description["classes"]
        self.temperature: float = self.description["temperature"]
        self.threshold: float = self.description["threshold"]
        self.encoder = TransformerEncoder(
            str(self.folder),
            query_prefix=self.description["query_prefix"],
            max_tokens=self.description["max_tokens"],
            pooling=self.description["pooling"],
            device=device,
            batch_size=batch_size,
            threads=threads,
        )

    def classify(self, texts: Sequence[str]) -> list[tuple[str | None, float]]:
        """The likeliest class and its calibrated probability, or None and that probability where it
        is below the threshold.

        A text without a letter or digit is (None, 0.0).
        """
        probabilities_NC = self.probabilities(texts)
        best_N = probabilities_NC.argmax(axis=1)
        return [
            self._decide(text, int(best), float(row_C[best]))
            for text, best, row_C in zip(texts, best_N, probabilities_NC, strict=True)
        ]

    def probabilities(self, texts: Sequence[str]) -> Floats:
        """[N, C] float32, columns as `classes`: given that the text is one of them."""
        logits_NC = self.logits(texts) / self.temperature
        exponentials_NC = np.exp(logits_NC - logits_NC.max(axis=1, keepdims=True))
        return exponentials_NC / exponentials_NC.sum(axis=1, keepdims=True)

    def logits(self, texts: Sequence[str]) -> Floats:
        """[N, C] float32, before the temperature."""
        weight_CD, bias_C = self._head
        return self.encoder.encode_queries(texts) @ weight_CD.T + bias_C

    def _decide(self, text: str, best: int, probability: float) -> tuple[str | None, float]:
        if not any(map(str.isalnum, text)):
            return None, 0.0
        return (self.classes[best] if probability >= self.threshold else None), probability

    @cached_property
    def _head(self) -> tuple[Floats, Floats]:
        from safetensors.numpy import load_file

        head = load_file(self.folder / HEAD)
        return head["weight"], head["bias"]
