"""One vector an item out of its title, its description and its picture, in the texts' space, so
that queries and all that reads item vectors stay as they are.

Words are centred and added, the description with a weight. A picture enters twice. As its *words*:
kernel ridge regression from pictures to the words of the shop's own items (Saunders, Gammerman &
Vovk 1998), and the names of the classes that the picture encoder sees in it (ConSE: Norouzi et al.
2014). As its *look*: pictures turned as a whole towards their words (orthogonal Procrustes:
Schoenemann 1966), so that what looks alike stays alike, also where no word says it. An item without
words has those of its picture. No item's own words come back to it by its picture (leave-one-out,
in closed form).

All vectors of a shop keep the mean of its texts, which says nothing of a single item; they differ
at right angles to it. A missing picture or text costs nothing but itself.

Legend: N items, A anchors (items that were fitted on), D dimensions of texts, E of pictures, C
classes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np

from recsys.interfaces import Encoder, JointEncoder, PictureEncoder
from recsys.types import Floats, Mask

#: Items that are fitted on: the kernel's matrix is this large, squared.
MAX_ANCHORS = 2_048
#: With fewer pictured items nothing is learned from pictures.
MIN_ANCHORS = 16
#: The kernel is exp(SHARPNESS (cosine - 1)); its ridge.
SHARPNESS, RIDGE = 4.0, 0.3
#: Of the classes' names beside the words of the shop.
NAMES_WEIGHT = 0.5
#: Cosines of a joint space to logits: what CLIP learns (Radford et al. 2021).
JOINT_SCALE = 100.0
#: Of the look beside the picture's words, for an item that has words and for one without.
LOOK_WEIGHT, WORDLESS_LOOK_WEIGHT = 1.0, 0.5


@runtime_checkable
class ClassifyingPictureEncoder(PictureEncoder, Protocol):
    """One that can name what it sees."""

    def classes(self) -> tuple[list[str], Floats]:
        """C names, and [C, dim]: softmax(vectors @ that.T) are their probabilities."""
        ...


@dataclass(frozen=True)
class NamedClasses:
    """What a picture encoder can name: softmax(vectors @ `weights_CE`.T) are probabilities of
    classes, `names_CD` their names as texts."""

    weights_CE: Floats
    names_CD: Floats

    @classmethod
    def none(cls, dim: int, depth: int) -> NamedClasses:
        return cls(np.zeros((0, depth), np.float32), np.zeros((0, dim), np.float32))

    def words(self, pictures_NE: Floats) -> Floats:
        """[N, D]: the mean of the names, weighted by their probabilities; zeros
        without classes."""
        if not len(self.weights_CE):
            return np.zeros((len(pictures_NE), self.names_CD.shape[1]), np.float32)
        logits_NC = pictures_NE @ self.weights_CE.T
        odds_NC = np.exp(logits_NC - logits_NC.max(axis=1, keepdims=True, initial=-np.inf))
        return unit_length(odds_NC / odds_NC.sum(axis=1, keepdims=True) @ self.names_CD)


def named_classes(
    pictures: PictureEncoder, texts: Encoder, vocabulary: Sequence[str] = ()
) -> NamedClasses | None:
    """Those of the picture encoder; of a joint one, the `vocabulary`. None where it names
    nothing."""
    if isinstance(pictures, JointEncoder) and vocabulary:
        weights_CE = JOINT_SCALE * pictures.encode_texts(vocabulary)
        return NamedClasses(weights_CE, texts.encode_items(vocabulary))
    if not isinstance(pictures, ClassifyingPictureEncoder):
        return None
    names, weights_CE = pictures.classes()
    return NamedClasses(weights_CE, texts.encode_items(names))


@dataclass(frozen=True)
class ItemMedia:
    """What items are made of, [N, D] and [N, E] of unit length; zeros where an item lacks it."""

    item_ids: Sequence[str]
    titles_ND: Floats
    descriptions_ND: Floats
    pictures_NE: Floats

    def take(self, rows: Any) -> ItemMedia:
        ids = [self.item_ids[row] for row in rows]
        return ItemMedia(
            ids, self.titles_ND[rows], self.descriptions_ND[rows], self.pictures_NE[rows]
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Fusion:
    """`fit` learns one; `fuse` makes the vectors. `own_AD` is what an anchor's own words add to the
    words of its picture. Without anchors pictures are not read."""

    mean_D: Floats
    title_mean_D: Floats
    description_mean_D: Floats
    picture_mean_E: Floats
    anchor_ids: Any
    anchors_AE: Floats
    duals_AD: Floats
    own_AD: Floats
    rotation_ED: Floats
    classes_CE: Floats
    names_CD: Floats
    names_mean_D: Floats
    description_weight: float = 1.0
    picture_weight: float = 0.5

    @classmethod
    def fit(cls, media: ItemMedia, classes: NamedClasses | None = None) -> Fusion:
        """On items of the shop, of which those with words and a picture are anchors, at most
        MAX_ANCHORS of them."""
        dim, depth = media.titles_ND.shape[1], media.pictures_NE.shape[1]
        title_mean_D, description_mean_D = (
            present_mean(media.titles_ND),
            present_mean(media.descriptions_ND),
        )
        words_ND = unit_length(
            centred_rows(media.titles_ND, title_mean_D)
            + centred_rows(media.descriptions_ND, description_mean_D)
        )
        full = words_ND.any(axis=1) & media.pictures_NE.any(axis=1)
        rows = np.flatnonzero(full)[:MAX_ANCHORS]
        rows = rows if len(rows) >= MIN_ANCHORS else rows[:0]
        picture_mean_E = present_mean(media.pictures_NE[rows])
        anchors_AE = centred_rows(media.pictures_NE[rows], picture_mean_E)
        duals_AD, own_AD = _regression(anchors_AE, words_ND[rows])
        classes = classes or NamedClasses.none(dim, depth)
        return cls(
            mean_D=present_mean(unit_length(media.titles_ND + media.descriptions_ND)),
            title_mean_D=title_mean_D,
            description_mean_D=description_mean_D,
            picture_mean_E=picture_mean_E,
            anchor_ids=np.array([media.item_ids[row] for row in rows], np.str_),
            anchors_AE=anchors_AE,
            duals_AD=duals_AD,
            own_AD=own_AD,
            rotation_ED=_rotation(anchors_AE, words_ND[rows]),
            classes_CE=np.asarray(classes.weights_CE, np.float32),
            names_CD=np.asarray(classes.names_CD, np.float32),
            names_mean_D=present_mean(classes.words(media.pictures_NE[rows])),
        )

    def weighted(self, description_weight: float, picture_weight: float) -> Fusion:
        return replace(self, description_weight=description_weight, picture_weight=picture_weight)

    @property
    def reads_pictures(self) -> bool:
        return len(self.anchors_AE) > 0

    def fuse(self, media: ItemMedia) -> Floats:
        """[N, D] float32 of unit length; zeros where an item has none of them."""
        words_ND = unit_length(
            centred_rows(media.titles_ND, self.title_mean_D)
            + self.description_weight * centred_rows(media.descriptions_ND, self.description_mean_D)
        )
        if self.reads_pictures:
            named_ND, look_ND = self.picture_words(media), self.look(media)
            picture_ND = unit_length(named_ND + LOOK_WEIGHT * look_ND)
            words_ND = np.where(
                present_rows(words_ND),
                words_ND + self.picture_weight * picture_ND,
                named_ND + WORDLESS_LOOK_WEIGHT * look_ND,
            )
        return self._beside_mean(words_ND)

    def picture_words(self, media: ItemMedia) -> Floats:
        """[N, D]: what the pictures would be called, an item's own words apart."""
        pictures_NE = centred_rows(media.pictures_NE, self.picture_mean_E)
        words_ND = _kernel(pictures_NE, self.anchors_AE) @ self.duals_AD
        place = {item_id: at for at, item_id in enumerate(self.anchor_ids.tolist())}
        own_N = np.array([place.get(item_id, -1) for item_id in media.item_ids], np.int64)
        words_ND[own_N >= 0] -= self.own_AD[own_N[own_N >= 0]]
        words_ND = unit_length(words_ND)
        names_ND = NamedClasses(self.classes_CE, self.names_CD).words(media.pictures_NE)
        words_ND += NAMES_WEIGHT * centred_rows(names_ND, self.names_mean_D)
        return unit_length(self._apart_from_mean(words_ND * present_rows(pictures_NE)))

    def look(self, media: ItemMedia) -> Floats:
        """[N, D]: the pictures, turned."""
        return unit_length(centred_rows(media.pictures_NE, self.picture_mean_E) @ self.rotation_ED)

    def _apart_from_mean(self, vectors_ND: Floats) -> Floats:
        direction_D = self.mean_D / max(float(np.linalg.norm(self.mean_D)), 1e-9)
        return vectors_ND - (vectors_ND @ direction_D)[:, None] * direction_D

    def _beside_mean(self, vectors_ND: Floats) -> Floats:
        """Each at right angles to the mean, so long that with the mean its length is 1."""
        apart_ND = unit_length(self._apart_from_mean(vectors_ND))
        length = min(float(np.linalg.norm(self.mean_D)), 0.99)
        fused_ND = self.mean_D * present_rows(apart_ND) + np.sqrt(1 - length**2) * apart_ND
        return unit_length(fused_ND)

    def to_npz(self) -> bytes:
        """The same bytes for the same fusion: `np.savez` stores no times."""
        stream = io.BytesIO()
        np.savez(stream, **{each.name: getattr(self, each.name) for each in fields(self)})
        return stream.getvalue()

    @classmethod
    def from_npz(cls, data: bytes) -> Fusion:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            stored = {name: arrays[name] for name in arrays.files}
        for name in ("description_weight", "picture_weight"):
            stored[name] = float(stored[name])
        return cls(**stored)


def unit_length(vectors_ND: Floats) -> Floats:
    """Rows of length 1; rows of zeros stay."""
    lengths_N1 = np.linalg.norm(vectors_ND, axis=1, keepdims=True)
    return np.asarray(vectors_ND / np.where(lengths_N1 > 1e-9, lengths_N1, 1), np.float32)


def present_rows(vectors_ND: Floats) -> Mask:
    """[N, 1]: which rows are not zeros."""
    return np.asarray(vectors_ND.any(axis=1))[:, None]


def present_mean(vectors_ND: Floats) -> Floats:
    """[D] of the rows that are not zeros."""
    present_ND = vectors_ND[vectors_ND.any(axis=1)]
    return np.asarray(present_ND.sum(axis=0) / max(len(present_ND), 1), np.float32)


def centred_rows(vectors_ND: Floats, mean_D: Floats) -> Floats:
    """Less the mean, of length 1; rows of zeros stay."""
    return unit_length((vectors_ND - mean_D) * present_rows(vectors_ND))


def _kernel(pictures_NE: Floats, anchors_AE: Floats) -> Floats:
    return np.exp(SHARPNESS * (pictures_NE @ anchors_AE.T - 1))


def _regression(anchors_AE: Floats, words_AD: Floats) -> tuple[Floats, Floats]:
    """[A, D] dual coefficients, and [A, D] what leaving an anchor out takes from its own value:
    with G the kernel and its ridge, the value without it is y - dual / (G^-1)_aa."""
    gram_AA = _kernel(anchors_AE, anchors_AE).astype(np.float64)
    inverse_AA = np.linalg.inv(gram_AA + RIDGE * np.eye(len(gram_AA)))
    duals_AD = inverse_AA @ words_AD
    own_AD = (1 / np.diag(inverse_AA) - RIDGE)[:, None] * duals_AD
    return duals_AD.astype(np.float32), own_AD.astype(np.float32)


def _rotation(anchors_AE: Floats, words_AD: Floats) -> Floats:
    """[E, D]: the anchors' principal axes, as many as fit, turned towards their words."""
    dim = words_AD.shape[1]
    if not len(anchors_AE):
        return np.zeros((anchors_AE.shape[1], dim), np.float32)
    axes_KE = np.linalg.svd(anchors_AE, full_matrices=False)[2][: min(dim, len(anchors_AE) - 1)]
    left_KK, _, right_KD = np.linalg.svd((anchors_AE @ axes_KE.T).T @ words_AD, full_matrices=False)
    return np.asarray(axes_KE.T @ (left_KK @ right_KD), np.float32)
