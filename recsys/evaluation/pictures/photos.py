"""Photos of shoppers: which item each shows, from the shop's own photos of its items and from its
catalogue pictures alone, and whether photos of nothing in the shop are refused.

Measured are the photos of the split test; where there is none, of valid; where there is neither,
all. Learned from are train and valid (`data.CHOSEN_ON`) but what is measured. Legend: I items,
N photos, Q those measured, H dimensions of a descriptor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np

from recsys.datasets import data_folder
from recsys.encoders.efficientnet import EfficientNetEncoder
from recsys.errors import NotFoundError
from recsys.evaluation.pictures.data import CHOSEN_ON, picture_vectors, read_table, strings
from recsys.evaluation.results import Criterion, Row
from recsys.interfaces import PictureEncoder
from recsys.intervals import bootstrap_mean
from recsys.pictures.decode import decode_picture
from recsys.pictures.descriptors import COLOURS, colour_histogram, describe, describe_photos
from recsys.retrieval.photos import PhotoHead
from recsys.training.photo_head import fit_photo_head
from recsys.types import Floats, Ints, Mask

#: Sets whose pictures show nothing that a grocer sells, and so many of each.
OUTSIDE = ("img_flipkart", "img_ikea", "img_luma", "zh_newbee_images")
OUTSIDERS = 300
KEPT = 0.95
#: Floors and goals of recall@1 and recall@5, and of the share refused.
PHOTOS, CATALOGUE = ((0.70, 0.80), (0.945, 0.97)), ((0.40, 0.50), (0.70, 0.80))
REFUSED = (0.6, 0.85)
ALONE = "nightshelf, catalogue alone"
UNLABELLED = "nightshelf, catalogue and photos that nobody labelled"
#: The inverse strength of the rival's regularisation: of .1, 1 and 10 the best on valid, to noise.
INVERSE_STRENGTH = 0.1


@dataclass(frozen=True, kw_only=True)
class Photos:
    """The catalogue, the photos to learn from with the rows of their items, and those measured;
    `vectors` are the encoder's, the others descriptors."""

    catalogue_IE: Floats
    catalogue_IH: Floats
    pictured_I: Mask
    vectors_NE: Floats
    learned_NH: Floats
    rows_N: Ints
    measured_QE: Floats
    measured_QH: Floats
    rows_Q: Ints


def evaluate_photos(
    folder: Path, cache: Path, say: Callable[[str], None]
) -> tuple[list[Row], list[Criterion]]:
    """Recall of the one right item; nothing where the folder has no photos."""
    if not (folder / "photos.parquet").is_file() or not (folder / "items.parquet").is_file():
        return [], []
    encoder = EfficientNetEncoder()
    photos = _read(folder, cache, encoder, say)
    nobody_N = np.full(len(photos.rows_N), -1)
    catalogue = photos.catalogue_IH, photos.pictured_I
    head = fit_photo_head(*catalogue, photos.learned_NH, photos.rows_N)
    unlabelled = fit_photo_head(*catalogue, photos.learned_NH, nobody_N)
    alone = fit_photo_head(*catalogue, photos.learned_NH[:0], photos.rows_N[:0])
    ranks = _rival_ranks(photos)
    ranks[ALONE] = _ranks(alone, photos)
    ranks[UNLABELLED] = _ranks(unlabelled, photos)
    ranks["nightshelf"] = _ranks(head, photos)
    rows = [_row(name, ranks_Q) for name, ranks_Q in ranks.items()]
    if (rival := "logistic regression of photos") in ranks:
        gains_Q = (ranks["nightshelf"] < 1) * 1.0 - (ranks[rival] < 1)
        low, high = bootstrap_mean(gains_Q.astype(np.float32))
        say(f"recall@1 over {rival}: {gains_Q.mean():+.3f} [{low:+.3f}, {high:+.3f}], paired")
    criteria = [
        *_criteria("photo to product", ranks["nightshelf"], PHOTOS),
        *_criteria("catalogue pictures alone", ranks[ALONE], CATALOGUE),
        *_criteria("catalogue pictures, photos without labels", ranks[UNLABELLED], CATALOGUE),
        *_refusals(head, photos, cache, encoder, say),
    ]
    return rows, criteria


def _read(folder: Path, cache: Path, encoder: PictureEncoder, say: Callable[[str], None]) -> Photos:
    items, photos = read_table(folder, "items"), read_table(folder, "photos")
    row_of = {item: row for row, item in enumerate(strings(items, "item_id"))}
    rows_N = np.array([row_of.get(item, -1) for item in strings(photos, "item_id")])
    split_N = np.array(strings(photos, "split"))
    present_N = np.array([bool(content) for content in photos["image"].to_pylist()])
    part = next((each for each in ("test", "valid") if (split_N == each).any()), "")
    measured_N = (rows_N >= 0) & present_N & ((split_N == part) if part else True)
    learned_N = (rows_N >= 0) & present_N & np.isin(split_N, CHOSEN_ON) & ~measured_N
    contents = photos["image"].to_pylist()
    learned = [contents[at] for at in np.flatnonzero(learned_N)]
    learned_rows_N = rows_N[learned_N]
    if not learned:
        learned, learned_rows_N = _visible_photos(row_of)
    say(
        f"{int(measured_N.sum()):,} photos measured (split {part or 'any'}), of "
        f"{len(set(rows_N[measured_N])):,} of {len(row_of):,} items; {len(learned):,} learned from"
    )
    pictures = items["image"].to_pylist()
    vectors_IE = picture_vectors(encoder, pictures, cache)
    vectors_NE = picture_vectors(encoder, learned, cache)
    measured = [contents[at] for at in np.flatnonzero(measured_N)]
    return Photos(
        catalogue_IE=vectors_IE,
        catalogue_IH=describe(vectors_IE, _colours(pictures)),
        pictured_I=np.any(vectors_IE, axis=1),
        vectors_NE=vectors_NE,
        learned_NH=describe(vectors_NE, _colours(learned)),
        rows_N=learned_rows_N,
        measured_QE=picture_vectors(encoder, measured, cache),
        measured_QH=_descriptors(encoder, measured, cache),
        rows_Q=rows_N[measured_N],
    )


def _visible_photos(row_of: dict[str, int]) -> tuple[list[bytes], Ints]:
    """Those that the machine's own data set has of these items, where the folder has photos to
    measure alone."""
    try:
        photos = read_table(data_folder("img_grocery"), "photos")
    except NotFoundError:
        return [], np.empty(0, np.int64)
    rows_N = np.array([row_of.get(item, -1) for item in strings(photos, "item_id")])
    learned_N = (rows_N >= 0) & np.isin(strings(photos, "split"), CHOSEN_ON)
    contents = photos["image"].to_pylist()
    return [contents[at] for at in np.flatnonzero(learned_N)], rows_N[learned_N]


def _colours(pictures: Sequence[bytes | None]) -> Floats:
    colours_NC = np.zeros((len(pictures), COLOURS), np.float32)
    for colours_C, picture in zip(colours_NC, pictures, strict=True):
        if picture:
            colours_C[:] = colour_histogram(decode_picture(picture))
    return colours_NC


def _descriptors(encoder: PictureEncoder, photos: Sequence[bytes], cache: Path) -> Floats:
    """[Q, H] of `describe_photos`, kept in the folder `cache`."""
    digest = blake2b(encoder.space.encode(), digest_size=8)
    for photo in photos:
        digest.update(blake2b(photo, digest_size=8).digest())
    path = cache / f"photos-{encoder.space}-{digest.hexdigest()}.npy"
    if path.is_file():
        return np.load(path)
    batches = [
        describe_photos(encoder, [decode_picture(photo) for photo in photos[start : start + 32]])
        for start in range(0, len(photos), 32)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.concatenate(batches))
    return np.load(path)


def _ranks(fitted: tuple[PhotoHead, Floats], photos: Photos) -> Ints:
    """[Q] places from 0 of the right items; one without a picture or photo comes last."""
    head, items_IH = fitted
    scores_QI = head.queries(photos.measured_QH) @ items_IH.T
    return _places(np.where(np.any(items_IH, axis=1), scores_QI, -np.inf), photos.rows_Q)


def _places(scores_QI: Floats, rows_Q: Ints) -> Ints:
    order_QI = np.argsort(-scores_QI, axis=1, kind="stable")
    return np.asarray((order_QI == rows_Q[:, None]).argmax(axis=1))


def _rival_ranks(photos: Photos) -> dict[str, Ints]:
    vectors_QE, rows_Q = photos.measured_QE, photos.rows_Q
    ranks = {"cosine to the catalogue picture": _places(vectors_QE @ photos.catalogue_IE.T, rows_Q)}
    if len(np.unique(photos.rows_N)) < 2:
        return ranks
    items = len(photos.catalogue_IE)
    nearest_QI = np.full((len(rows_Q), items), -np.inf, np.float32)
    cosines_QN = vectors_QE @ photos.vectors_NE.T
    for row in np.unique(photos.rows_N):
        nearest_QI[:, row] = cosines_QN[:, photos.rows_N == row].max(axis=1)
    ranks["nearest of the photos"] = _places(nearest_QI, rows_Q)
    ranks["logistic regression of photos"] = _places(_regression(photos), rows_Q)
    return ranks


def _regression(photos: Photos) -> Floats:
    from sklearn.linear_model import LogisticRegression

    mean_E, scale_E = photos.vectors_NE.mean(axis=0), photos.vectors_NE.std(axis=0) + 1e-9
    model = LogisticRegression(C=INVERSE_STRENGTH, max_iter=300)
    model.fit((photos.vectors_NE - mean_E) / scale_E, photos.rows_N)
    scores_QI = np.full((len(photos.rows_Q), len(photos.catalogue_IE)), -np.inf)
    odds_QC = model.decision_function((photos.measured_QE - mean_E) / scale_E)
    if odds_QC.ndim == 1:
        odds_QC = np.stack([-odds_QC, odds_QC], axis=1)
    scores_QI[:, model.classes_] = odds_QC
    return scores_QI


def _row(name: str, ranks_Q: Ints) -> Row:
    row: Row = {"name": name}
    for k in (1, 5):
        hits_Q = (ranks_Q < k).astype(np.float32)
        low, high = bootstrap_mean(hits_Q)
        row |= {f"recall@{k}": float(hits_Q.mean())}
        row |= {f"recall@{k}/low": low, f"recall@{k}/high": high}
    return row


def _criteria(name: str, ranks_Q: Ints, bounds: Sequence[tuple[float, float]]) -> list[Criterion]:
    return [
        Criterion(
            name=f"{name}, recall@{k}",
            value=float((ranks_Q < k).mean()),
            interval=bootstrap_mean((ranks_Q < k).astype(np.float32)),
            floor=floor,
            goal=goal,
        )
        for k, (floor, goal) in zip((1, 5), bounds, strict=True)
    ]


def _refusals(
    fitted: tuple[PhotoHead, Floats],
    photos: Photos,
    cache: Path,
    encoder: PictureEncoder,
    say: Callable[[str], None],
) -> list[Criterion]:
    """Of pictures from other sets, where the machine has some."""
    head, items_IH = fitted
    best_Q = (head.queries(photos.measured_QH) @ items_IH.T).max(axis=1)
    bound, refused = float(np.quantile(best_Q, 1 - KEPT)), list[Floats]()
    for name in OUTSIDE:
        try:
            contents = read_table(data_folder(name), "items")["image"].to_pylist()
        except NotFoundError:
            continue
        outsiders = [content for content in contents if content][:OUTSIDERS]
        queries_NH = head.queries(_descriptors(encoder, outsiders, cache))
        cosines_N = (queries_NH @ items_IH.T).max(axis=1)
        refused.append((cosines_N < bound).astype(np.float32))
        own = head.min_cosine if head.min_cosine is not None else -1.0
        say(
            f"{name}: {refused[-1].mean():.3f} refused where {KEPT:.0%} of the photos are kept; "
            f"at the head's own bound {(cosines_N < own).mean():.3f}, "
            f"and {(best_Q >= own).mean():.3f} kept"
        )
    if not refused:
        return []
    refused_N = np.concatenate(refused)
    return [
        Criterion(
            name=f"photos of nothing in the shop, refused where {KEPT:.0%} are kept",
            value=float(refused_N.mean()),
            interval=bootstrap_mean(refused_N),
            floor=REFUSED[0],
            goal=REFUSED[1],
        )
    ]
