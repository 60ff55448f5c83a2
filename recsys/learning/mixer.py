"""Learning the mixer of candidate sources from purchases of the last days."""

from __future__ import annotations

import numpy as np

from recsys.arrays import Histories
from recsys.config import Setup
from recsys.errors import InputError
from recsys.learning.options import TrainOptions
from recsys.models.composition import catalogue_vectors, next_setup
from recsys.pipeline.candidates import candidate_generator
from recsys.pipeline.sources import SOURCES, category_codes, fit_source_data
from recsys.ranking.linear import RETAIL_WEIGHTS
from recsys.release import files
from recsys.release.arrow import added_days, histories_of
from recsys.release.release import Release
from recsys.storage.artifacts import ArtifactStore
from recsys.training import MIXER
from recsys.training.mixer import fit_mixer, mixer_examples
from recsys.training.splits import split_last_days

#: Purchases of so many days are the mixer's targets, or of a tenth of the log where that is less.
TARGET_DAYS = 7


def train_mixer(setup: Setup, options: TrainOptions) -> dict[str, float]:
    """Learns how much each source counts and writes MIXER into the folder: purchases of the log's
    last days are predicted by sources fitted to the days before. Returns the number of buyers."""
    release = Release.open(ArtifactStore(setup.home))
    log = histories_of(release.users)
    days = target_days(log)
    before, offsets, items = split_last_days(log, days)
    if not len(before):
        raise InputError(
            f"nobody bought in the log's last {days} days and before them: "
            "a mixer needs days to predict, and a past"
        )
    trained = next_setup(setup, options.folder)
    users = trained.user_model()
    vectors_ID = catalogue_vectors(release, trained.encoder(), options.folder)
    data = fit_source_data(
        before,
        float(before.days.max()),
        items_ID=users.embed_items(release.items, vectors_ID),
        content=(release.array(files.CONTENT_ROWS), release.array(files.CONTENT_SCORES)),
        categories_I=category_codes(release.items),
        added_days_I=added_days(release.items),
    )
    generate = candidate_generator(data, SOURCES, users)
    examples = mixer_examples(generate, before, (offsets, items))
    mixer = fit_mixer(examples, SOURCES, RETAIL_WEIGHTS)
    options.folder.mkdir(parents=True, exist_ok=True)
    mixer.save(options.folder / MIXER)
    options.say(f"a mixer of {', '.join(SOURCES)} learned from {len(before):,} buyers")
    return {"mixer/buyers": float(len(before))}


def target_days(log: Histories) -> int:
    """How many of the log's last days are predicted: at least one."""
    return max(1, min(TARGET_DAYS, int(np.ptp(log.days)) // 10)) if len(log.days) else 1
