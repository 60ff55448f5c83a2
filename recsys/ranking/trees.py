"""A ranker of gradient-boosted trees, with exact SHAP values of each score.

Legend: B requests, N candidates, F features.
"""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from recsys.errors import InputError, NotFoundError
from recsys.types import Floats

BOOSTER, NAMES = "trees.txt", "features.json"


class TreeRanker:
    """Scores by the LightGBM booster in a folder, with `threads` threads. `Ranker` and
    `ExplainableRanker`.

    Made cheaply: the first score loads the trees. Raises NotFoundError where the folder has none.
    """

    def __init__(self, folder: str | Path, threads: int = 1) -> None:
        self.folder, self.threads = Path(folder), threads
        if not (self.folder / NAMES).exists():
            raise NotFoundError(
                f"{folder} has no trees: name a folder that training.lambdamart.train_trees wrote"
            )
        self.feature_names: tuple[str, ...] = tuple(json.loads((self.folder / NAMES).read_text()))

    def score(self, features_BNF: Floats) -> Floats:
        return self._predict(features_BNF).reshape(features_BNF.shape[:2])

    def contributions(self, features_BNF: Floats) -> Floats:
        """[B, N, F + 1]: SHAP values (TreeSHAP, Lundberg et al. 2020), last the mean over what it
        was trained on."""
        shap_NF = self._predict(features_BNF, pred_contrib=True)
        return shap_NF.reshape(*features_BNF.shape[:2], features_BNF.shape[2] + 1)

    def _predict(self, features_BNF: Floats, **options: Any) -> Floats:
        names = len(self.feature_names)
        if features_BNF.shape[-1] != names:
            raise InputError(
                f"{features_BNF.shape[-1]} features came for trees of {names}: "
                f"give {self.feature_names}"
            )
        if not features_BNF.size:
            return np.zeros(features_BNF.shape[:2], np.float32)
        features_NF = features_BNF.reshape(-1, names)
        predictions = self._booster.predict(features_NF, num_threads=self.threads, **options)
        return np.asarray(predictions, np.float32)

    @cached_property
    def _booster(self) -> Any:
        import lightgbm

        return lightgbm.Booster(model_file=str(self.folder / BOOSTER))


def save_trees(booster: Any, names: tuple[str, ...], folder: Path) -> None:
    """Writes what `TreeRanker` opens: LightGBM's text form up to its best round, and the features'
    names."""
    folder.mkdir(parents=True, exist_ok=True)
    booster.save_model(str(folder / BOOSTER), num_iteration=booster.best_iteration)
    (folder / NAMES).write_text(json.dumps(names, indent=2) + "\n")
