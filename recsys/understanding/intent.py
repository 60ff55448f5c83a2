"""The intent class of a text: a fine-tuned encoder, one matrix, and a confidence below which it is
none of these."""

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
    """What `training.classifier.train_classifier` saved to a folder; the same code scores it and
    serves it.

    Making one reads labels.json; the model is loaded by the first text. `device`, `batch_size` and
    `threads` as in `TransformerEncoder`. Raises NotFoundError for a folder without a classifier.
    """

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
        self.about = json.loads((self.folder / LABELS).read_text(encoding="utf-8"))
        self.classes: list[str] = self.about["classes"]
        self.temperature: float = self.about["temperature"]
        self.threshold: float = self.about["threshold"]
        self.encoder = TransformerEncoder(
            str(self.folder),
            query_prefix=self.about["query_prefix"],
            max_tokens=self.about["max_tokens"],
            pooling=self.about["pooling"],
            device=device,
            batch_size=batch_size,
            threads=threads,
        )

    def classify(self, texts: Sequence[str]) -> list[tuple[str | None, float]]:
        """The likeliest class and its calibrated probability, or None and that probability where it
        is too low.

        A text without a letter or digit is (None, 0.0).
        """
        probabilities_NC = self.probabilities(texts)
        best_N = probabilities_NC.argmax(axis=1)
        return [
            self._answer(text, int(best), float(row_C[best]))
            for text, best, row_C in zip(texts, best_N, probabilities_NC, strict=True)
        ]

    def probabilities(self, texts: Sequence[str]) -> Floats:
        """[N, C] float32, columns as `classes`: given that the text is one of them."""
        logits_NC = self.logits(texts) / self.temperature
        raised_NC = np.exp(logits_NC - logits_NC.max(axis=1, keepdims=True))
        return raised_NC / raised_NC.sum(axis=1, keepdims=True)

    def logits(self, texts: Sequence[str]) -> Floats:
        """[N, C] float32, before the temperature."""
        weight_CD, bias_C = self._head
        return self.encoder.encode_queries(texts) @ weight_CD.T + bias_C

    def _answer(self, text: str, best: int, probability: float) -> tuple[str | None, float]:
        if not any(map(str.isalnum, text)):
            return None, 0.0
        return (self.classes[best] if probability >= self.threshold else None), probability

    @cached_property
    def _head(self) -> tuple[Floats, Floats]:
        from safetensors.numpy import load_file

        head = load_file(self.folder / HEAD)
        return head["weight"], head["bias"]
