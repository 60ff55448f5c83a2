"""Texts to classes: a pretrained encoder and a linear head, fine-tuned together, then calibrated.

C classes. The head sees the unit vector that the encoder gives by day, so that what is saved is an
ordinary encoder's folder and one matrix."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
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
from recsys.training.loop import Positions, Say, Schedule, fit, seed_everything
from recsys.training.pooled import Pooled, Tokens
from recsys.training.workers import from_first, rank
from recsys.types import Ints
from recsys.understanding.intent import HEAD, LABELS, IntentClassifier

#: The longest text that is taken for a text, in characters.
MAX_CHARS = 10_000
Labelled = tuple[Sequence[str], Sequence[str]]


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

    `valid` chooses the weights, the temperature and the threshold; without it a stratified tenth of
    the texts does, drawn by the schedule's seed. Returns what labels.json holds under `metrics`,
    measured on it. `fit` says what `resume` and several workers mean.

    Raises InputError for no texts, texts and labels of different number, an empty or overlong text,
    an empty label, a label not in `known_labels`, fewer than two classes, or nothing to validate
    on."""
    check_labelled(texts, labels, known_labels)
    if len(set(labels)) < 2:
        raise InputError(
            f"all {len(labels)} texts have the label {labels[0]!r}: a classifier needs two or more"
        )
    if valid is None:
        valid, (texts, labels) = stratified_split(texts, labels, 0.1, schedule.seed)
    check_labelled(*valid, sorted(set(labels)))
    classes = sorted(set(labels))
    truth_N, valid_N = (class_rows(names, classes) for names in (labels, valid[1]))
    seed_everything(schedule.seed)
    pooled = Pooled(base, recipe.adapters, recipe.rank, schedule.steps(len(texts)))
    model = ClassifierNet(pooled, len(classes), recipe)
    tokens, valid_tokens = (Tokens(base, part, base.query_prefix) for part in (texts, valid[0]))
    device = schedule.device or ("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device).begin_at_centroids(
        _forward(model, tokens)[0].to(device), torch.from_numpy(truth_N).to(device)
    )

    def accuracy(model: nn.Module) -> float:
        """Less up to half a text's worth of log loss, which decides between equals."""
        logits_NC = _forward(model, valid_tokens)[1].cpu().numpy()
        loss = calibration.log_loss(logits_NC, valid_N)
        return float(
            (logits_NC.argmax(axis=1) == valid_N).mean() - loss / (1 + loss) / (2 * len(valid_N))
        )

    fitted = fit(
        model,
        len(texts),
        _loss(tokens, truth_N, recipe),
        accuracy,
        schedule,
        say=say,
        resume=resume,
    )
    metrics = None
    if rank() == 0:
        about = {"train": len(texts), "valid": len(valid[0]), **asdict(fitted)}
        metrics = _save(
            model,
            Path(folder),
            classes,
            valid,
            about,
            {"seed": schedule.seed, "recipe": asdict(recipe)},
        )
    return from_first(metrics)


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
    right_N, sure_N = scores_NC.argmax(axis=1) == truth_N, scores_NC.max(axis=1)
    found = {
        "accuracy": float(right_N.mean()),
        "macro_f1": calibration.macro_f1(
            truth_N, scores_NC.argmax(axis=1), len(classifier.classes)
        ),
        "calibration_error": calibration.calibration_error(scores_NC, truth_N),
        "log_loss": calibration.log_loss(logits_NC, truth_N),
        "kept": float((sure_N[right_N] >= classifier.threshold).mean()) if right_N.any() else 0.0,
    }
    if len(outside):
        other_M = classifier.probabilities(outside).max(axis=1)
        found["auroc"] = calibration.auroc(sure_N, other_M)
        found["refused"] = float((other_M < classifier.threshold).mean())
        answered = (right_N & (sure_N >= classifier.threshold)).sum() + (
            other_M < classifier.threshold
        ).sum()
        found["accuracy/all"] = float(answered / (len(texts) + len(outside)))
    return found


def check_labelled(
    texts: Sequence[str], labels: Sequence[str], known_labels: Sequence[str] | None = None
) -> None:
    """Raises InputError with the first thing that is wrong, and where."""
    if len(texts) != len(labels):
        raise InputError(
            f"there are {len(texts)} texts and {len(labels)} labels: give each text one label"
        )
    if not len(texts):
        raise InputError("there are no labelled texts: the file is empty")
    for place, (text, label) in enumerate(zip(texts, labels, strict=True), 1):
        if not text.strip():
            raise InputError(f"text {place} (label {label!r}) is empty: fill it or remove the row")
        if len(text) > MAX_CHARS:
            raise InputError(
                f"text {place} has {len(text):,} characters: cut it to {MAX_CHARS:,} or remove the row"
            )
        if not label.strip():
            raise InputError(
                f"text {place} ({text[:40]!r}) has no label: fill it or remove the row"
            )
    unknown = sorted(set(labels) - set(labels if known_labels is None else known_labels))
    if unknown:
        named = ", ".join(unknown[:5]) + (" ..." if len(unknown) > 5 else "")
        raise InputError(
            f"{len(unknown)} labels are unknown: {named}; correct them or remove their rows"
        )


def stratified_split(
    texts: Sequence[str], labels: Sequence[str], share: float, seed: int
) -> tuple[Labelled, Labelled]:
    """(A stratified `share`, the rest): of each class its rounded part, so none of a class of few;
    where that is nothing at all, one of each class of two or more. Raises InputError where every
    class has one text."""
    order = np.random.default_rng(seed).permutation(len(labels))
    sizes = Counter(labels)
    wanted = {label: round(size * share) for label, size in sizes.items()}
    if not any(wanted.values()):
        wanted = {label: min(1, size - 1) for label, size in sizes.items()}
    if not any(wanted.values()):
        raise InputError(
            f"each of {len(sizes)} classes has one text: add texts, or give some to validate on"
        )
    parts: tuple[list[int], list[int]] = ([], [])
    for place in order:
        taken = wanted[labels[place]] > 0
        wanted[labels[place]] -= taken
        parts[not taken].append(place)
    first, rest = (
        ([texts[at] for at in sorted(part)], [labels[at] for at in sorted(part)]) for part in parts
    )
    return first, rest


def class_rows(labels: Sequence[str], classes: Sequence[str]) -> Ints:
    place = {name: at for at, name in enumerate(classes)}
    return np.array([place[label] for label in labels], np.int64)


def _loss(tokens: Tokens, truth_N: Ints, recipe: ClassifierRecipe) -> Any:
    def loss(model: nn.Module, places: Positions) -> Tensor:
        copies = 2 if recipe.rdrop else 1
        device = next(model.parameters()).device
        truth_B = torch.from_numpy(truth_N[np.tile(places, copies)]).to(device)
        vectors_BD, logits_BC = model(*tokens.batch(np.tile(places, copies), device))
        total = functional.cross_entropy(logits_BC, truth_B, label_smoothing=recipe.label_smoothing)
        if recipe.rdrop:
            total = total + recipe.rdrop * _disagreement(*logits_BC.log_softmax(dim=1).chunk(2))
        if recipe.supcon:
            total = total + recipe.supcon * supervised_contrastive(vectors_BD.float(), truth_B)
        return total

    return loss


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
    about: dict[str, Any],
    how: dict[str, Any],
) -> dict[str, Any]:
    """The encoder, the head and, last, labels.json; calibrated by the very code that will
    answer."""
    from safetensors.numpy import save_file

    base = model.pooled.base
    folder.mkdir(parents=True, exist_ok=True)
    (folder / LABELS).unlink(missing_ok=True)
    model.pooled.save(folder)
    weight_CD, bias_C = (
        part.detach().float().cpu().numpy() for part in (model.head.weight, model.head.bias)
    )
    save_file(
        {"weight": np.ascontiguousarray(weight_CD * model.scale), "bias": bias_C}, folder / HEAD
    )
    reading = {
        "query_prefix": base.query_prefix,
        "max_tokens": base.max_tokens,
        "pooling": base.pooling,
    }
    labels = {"classes": classes, "temperature": 1.0, "threshold": 0.0, **reading, **how}
    _write(folder, labels)
    classifier, truth_N = (
        IntentClassifier(folder, base.device, threads=base.threads),
        class_rows(valid[1], classes),
    )
    logits_NC = classifier.logits(valid[0])
    labels["temperature"] = calibration.temperature(logits_NC, truth_N)
    sure_NC = calibration.softmax(logits_NC / labels["temperature"])
    labels["threshold"] = calibration.threshold(sure_NC, truth_N)
    classifier.temperature, classifier.threshold = labels["temperature"], labels["threshold"]
    labels["metrics"] = {**about, **evaluate_classifier(classifier, *valid)}
    _write(folder, labels)
    return labels["metrics"]


def _write(folder: Path, labels: dict[str, Any]) -> None:
    (folder / LABELS).write_text(json.dumps(labels, ensure_ascii=False, indent=1), encoding="utf-8")
