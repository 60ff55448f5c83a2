"""Texts to classes: a pretrained encoder and a linear head, fine-tuned together, then calibrated.

C classes. The head sees the unit vector that the encoder gives by day, so that what is saved is an
ordinary encoder's folder and one matrix."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from recsys.encoders.transformer import TransformerEncoder
from recsys.errors import InputError
from recsys.training import calibration
from recsys.training.adapters import Adapters
from recsys.training.labelled import Labelled, check_labelled, class_rows, stratified_split
from recsys.training.loop import Positions, Say, Validate, fit, seed_everything
from recsys.training.pooled import Pooled, Tokens
from recsys.training.schedule import Schedule
from recsys.training.workers import from_first, rank
from recsys.types import Ints
from recsys.understanding.intent import HEAD, LABELS, IntentClassifier

#: banking77, validation / test accuracy: this .944 / .931 (another seed .944 / .931), with R-drop
#: of weight 1 .946 / .927, with SupCon of weight .5 in batches of 64 .942 / .931. All within noise,
#: so the simplest.
SCHEDULE = Schedule(epochs=20, batch_size=32, learning_rate=1e-4, head_rate=10, patience=5)


@dataclass(frozen=True, kw_only=True)
class ClassifierRecipe:
    """What is learned from an example.

    `scale` multiplies the cosine that the head begins with. `rdrop` weighs the disagreement of two
    dropouts of a text (Liang et al., NeurIPS 2021), `supcon` the supervised contrastive loss within
    a batch (Khosla et al., NeurIPS 2020); both are off at 0. `adapters` of `rank` leave the
    encoder's weights frozen."""

    label_smoothing: float = 0.1
    dropout: float = 0.1
    scale: float = 20.0
    rdrop: float = 0.0
    supcon: float = 0.0
    adapters: Adapters | None = None
    rank: int = 16


def classifier_choices(
    changes: Mapping[str, Any], log_dir: Path
) -> tuple[Schedule, ClassifierRecipe]:
    """`SCHEDULE` and the default recipe with `changes`, each a field of either."""
    names = {field.name for field in fields(ClassifierRecipe)}
    recipe = {name: value for name, value in changes.items() if name in names}
    schedule = {name: value for name, value in changes.items() if name not in names}
    return replace(SCHEDULE, log_dir=log_dir, **schedule), ClassifierRecipe(**recipe)


class ClassifierNet(nn.Module):
    """Unit vectors and logits of token ids."""

    def __init__(self, pooled: Pooled, classes: int, recipe: ClassifierRecipe) -> None:
        super().__init__()
        self.pooled = pooled
        self.dropout = nn.Dropout(recipe.dropout)
        self.head = nn.Linear(pooled.base.dim, classes)
        self.scale = recipe.scale

    def forward(self, ids_BT: Tensor, mask_BT: Tensor) -> tuple[Tensor, Tensor]:
        vectors_BD = self.pooled(ids_BT, mask_BT)
        return vectors_BD, self.head(self.scale * self.dropout(vectors_BD)).float()

    def begin_at_centroids(self, vectors_ND: Tensor, truth_N: Tensor) -> None:
        """Each class's row is the direction of its mean vector: nearest centroid, before any
        training."""
        sums_CD = torch.zeros_like(self.head.weight).index_add_(0, truth_N, vectors_ND)
        with torch.no_grad():
            self.head.weight.copy_(functional.normalize(sums_CD, dim=1))
            self.head.bias.zero_()


def train_classifier(
    texts: Sequence[str],
    labels: Sequence[str],
    base: TransformerEncoder,
    folder: str | Path,
    schedule: Schedule,
    *,
    recipe: ClassifierRecipe = ClassifierRecipe(),
    valid: Labelled | None = None,
    known_labels: Sequence[str] | None = None,
    say: Say = lambda _: None,
    resume: bool = False,
) -> dict[str, Any]:
    """Fine-tunes `base` (its query prefix is written before each text) and writes an
    `IntentClassifier` to `folder`.

    `valid` selects the weights, the temperature and the threshold; without it a stratified tenth of
    the texts does, drawn by the schedule's seed. Returns the metrics on it, as in labels.json.
    `fit` says what `resume` and several workers mean. Raises InputError for what `check_labelled`
    refuses (labels must be in `known_labels`), fewer than two classes, or nothing to validate
    on."""
    (texts, labels), valid = _training_data((texts, labels), valid, known_labels, schedule.seed)
    classes = sorted(set(labels))
    truth_N = class_rows(labels, classes)
    seed_everything(schedule.seed)
    pooled = Pooled(base, recipe.adapters, recipe.rank, schedule.steps(len(texts)))
    model = ClassifierNet(pooled, len(classes), recipe)
    tokens, valid_tokens = (Tokens(base, part, base.query_prefix) for part in (texts, valid[0]))
    device = schedule.device or ("cuda" if torch.cuda.is_available() else "cpu")
    vectors_ND = _forward(model.to(device), tokens)[0]
    model.begin_at_centroids(vectors_ND.to(device), torch.from_numpy(truth_N).to(device))
    loss = _loss(tokens, truth_N, recipe)
    validate = _accuracy(valid_tokens, class_rows(valid[1], classes))
    fitted = fit(model, len(texts), loss, validate, schedule, say=say, resume=resume)
    metrics = None
    if rank() == 0:
        about = {"train": len(texts), "valid": len(valid[0]), **asdict(fitted)}
        how = {"seed": schedule.seed, "recipe": asdict(recipe)}
        metrics = _save(model, Path(folder), classes, valid, about=about, how=how)
    return from_first(metrics)


def _training_data(
    train: Labelled, valid: Labelled | None, known_labels: Sequence[str] | None, seed: int
) -> tuple[Labelled, Labelled]:
    """Training and validation texts, checked."""
    check_labelled(*train, known_labels)
    if len(set(train[1])) < 2:
        raise InputError(
            f"all {len(train[1])} texts have the label {train[1][0]!r}: "
            "a classifier needs two or more"
        )
    if valid is None:
        valid, train = stratified_split(*train, 0.1, seed)
    check_labelled(*valid, sorted(set(train[1])))
    return train, valid


def evaluate_classifier(
    classifier: IntentClassifier,
    texts: Sequence[str],
    labels: Sequence[str],
    outside: Sequence[str] = (),
) -> dict[str, float]:
    """Accuracy, macro-F1, calibration error and log loss as if every text had a class; `kept`, the
    share of right answers that the threshold keeps. With texts from `outside` the classes, `auroc`
    of the confidence (inside above outside), `refused`, the share of the outside that is none of
    these, and `accuracy/all`: right over both."""
    check_labelled(texts, labels, classifier.classes)
    truth_N = class_rows(labels, classifier.classes)
    logits_NC = classifier.logits(texts) / classifier.temperature
    scores_NC = calibration.softmax(logits_NC)
    right_N, confidence_N = scores_NC.argmax(axis=1) == truth_N, scores_NC.max(axis=1)
    metrics = {
        "accuracy": float(right_N.mean()),
        "macro_f1": calibration.macro_f1(
            truth_N, scores_NC.argmax(axis=1), len(classifier.classes)
        ),
        "calibration_error": calibration.calibration_error(scores_NC, truth_N),
        "log_loss": calibration.log_loss(logits_NC, truth_N),
        "kept": float((confidence_N[right_N] >= classifier.threshold).mean())
        if right_N.any()
        else 0.0,
    }
    if len(outside):
        outside_M = classifier.probabilities(outside).max(axis=1)
        metrics["auroc"] = calibration.auroc(confidence_N, outside_M)
        metrics["refused"] = float((outside_M < classifier.threshold).mean())
        answered = (right_N & (confidence_N >= classifier.threshold)).sum() + (
            outside_M < classifier.threshold
        ).sum()
        metrics["accuracy/all"] = float(answered / (len(texts) + len(outside)))
    return metrics


def _loss(tokens: Tokens, truth_N: Ints, recipe: ClassifierRecipe) -> Any:
    def loss(model: nn.Module, positions: Positions) -> Tensor:
        copies = 2 if recipe.rdrop else 1
        device = next(model.parameters()).device
        truth_B = torch.from_numpy(truth_N[np.tile(positions, copies)]).to(device)
        vectors_BD, logits_BC = model(*tokens.batch(np.tile(positions, copies), device))
        total = functional.cross_entropy(logits_BC, truth_B, label_smoothing=recipe.label_smoothing)
        if recipe.rdrop:
            total = total + recipe.rdrop * _disagreement(*logits_BC.log_softmax(dim=1).chunk(2))
        if recipe.supcon:
            total = total + recipe.supcon * supervised_contrastive(vectors_BD.float(), truth_B)
        return total

    return loss


def _accuracy(tokens: Tokens, truth_N: Ints) -> Validate:
    """Accuracy less up to half a text's worth of log loss, which breaks ties."""

    def accuracy(model: nn.Module) -> float:
        logits_NC = _forward(model, tokens)[1].cpu().numpy()
        loss = calibration.log_loss(logits_NC, truth_N)
        return float(
            (logits_NC.argmax(axis=1) == truth_N).mean() - loss / (1 + loss) / (2 * len(truth_N))
        )

    return accuracy


def _disagreement(logs_BC: Tensor, others_BC: Tensor) -> Tensor:
    """Kullback-Leibler divergence both ways, halved."""
    divergence = functional.kl_div(logs_BC, others_BC, log_target=True, reduction="batchmean")
    return (
        divergence + functional.kl_div(others_BC, logs_BC, log_target=True, reduction="batchmean")
    ) / 2


def supervised_contrastive(vectors_BD: Tensor, truth_B: Tensor, temperature: float = 0.1) -> Tensor:
    """L_out of Khosla et al. over the unit vectors of a batch; texts without another of their class
    are left out."""
    itself_BB = torch.eye(len(vectors_BD), dtype=torch.bool, device=vectors_BD.device)
    alike_BB = (truth_B[:, None] == truth_B) & ~itself_BB
    logs_BB = (
        (vectors_BD @ vectors_BD.T / temperature)
        .masked_fill(itself_BB, -torch.inf)
        .log_softmax(dim=1)
    )
    alike_B = alike_BB.sum(dim=1)
    each_B = -logs_BB.masked_fill(~alike_BB, 0).sum(dim=1) / alike_B.clamp(min=1)
    return each_B[alike_B > 0].sum() / (alike_B > 0).sum().clamp(min=1)


def _forward(model: nn.Module, tokens: Tokens, size: int = 256) -> tuple[Tensor, Tensor]:
    """Vectors [N, D] and logits [N, C] of all texts, without dropout or gradients."""
    device, model = next(model.parameters()).device, model.eval()
    with torch.no_grad():
        blocks = tokens.blocks(size)
        vectors, logits = zip(
            *(model(*tokens.batch(places, device)) for places in blocks), strict=True
        )
    back = torch.from_numpy(np.argsort(np.concatenate(blocks))).to(device)
    return torch.cat(vectors)[back], torch.cat(logits)[back]


def _save(
    model: ClassifierNet,
    folder: Path,
    classes: list[str],
    valid: Labelled,
    *,
    about: dict[str, Any],
    how: dict[str, Any],
) -> dict[str, Any]:
    """Writes the encoder, the head and, last, labels.json, calibrated by the same code that will
    serve; returns the metrics."""
    base = model.pooled.base
    folder.mkdir(parents=True, exist_ok=True)
    (folder / LABELS).unlink(missing_ok=True)
    model.pooled.save(folder)
    _save_head(model, folder)
    usage = {
        "query_prefix": base.query_prefix,
        "max_tokens": base.max_tokens,
        "pooling": base.pooling,
    }
    labels = {"classes": classes, "temperature": 1.0, "threshold": 0.0, **usage, **how}
    _write_labels(folder, labels)
    classifier = IntentClassifier(folder, base.device, threads=base.threads)
    _calibrate(classifier, valid)
    labels["temperature"], labels["threshold"] = classifier.temperature, classifier.threshold
    labels["metrics"] = {**about, **evaluate_classifier(classifier, *valid)}
    _write_labels(folder, labels)
    return labels["metrics"]


def _save_head(model: ClassifierNet, folder: Path) -> None:
    from safetensors.numpy import save_file

    weight_CD, bias_C = (
        part.detach().float().cpu().numpy() for part in (model.head.weight, model.head.bias)
    )
    save_file(
        {"weight": np.ascontiguousarray(weight_CD * model.scale), "bias": bias_C}, folder / HEAD
    )


def _calibrate(classifier: IntentClassifier, valid: Labelled) -> None:
    """Sets temperature and threshold (temperature scaling, Guo et al. 2017)."""
    logits_NC, truth_N = classifier.logits(valid[0]), class_rows(valid[1], classifier.classes)
    classifier.temperature = calibration.temperature(logits_NC, truth_N)
    probabilities_NC = calibration.softmax(logits_NC / classifier.temperature)
    classifier.threshold = calibration.threshold(probabilities_NC, truth_N)


def _write_labels(folder: Path, labels: dict[str, Any]) -> None:
    (folder / LABELS).write_text(json.dumps(labels, ensure_ascii=False, indent=1), encoding="utf-8")
