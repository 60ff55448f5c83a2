"""Learning the user model from the histories of the current release."""

from __future__ import annotations

from recsys.config import Setup
from recsys.learning.options import TrainOptions
from recsys.models.composition import catalogue_vectors, next_setup
from recsys.release.arrow import histories_of
from recsys.release.release import Release
from recsys.storage.artifacts import ArtifactStore
from recsys.training import USER_MODEL
from recsys.training.splits import leave_last_out
from recsys.training.user_recipe import UserModelRecipe
from recsys.training.users import train_user_model


def train_users(setup: Setup, options: TrainOptions) -> dict[str, float]:
    """Trains the user model over the encoder that the next night takes, validated on each user's
    last event, and writes USER_MODEL into the folder. Returns its NDCG@10."""
    release = Release.open(ArtifactStore(setup.home))
    histories, valid = leave_last_out(histories_of(release.users), options.seed)
    encoder = next_setup(setup, options.folder).encoder()
    arguments = {
        "histories": histories,
        "valid": valid,
        "items": release.items,
        "vectors_ID": catalogue_vectors(release, encoder, options.folder),
        "folder": options.folder / USER_MODEL,
        "recipe": UserModelRecipe.for_machine(
            options.seed, options.log_dir(USER_MODEL)
        ).with_values(setup.user_recipe),
        "say": options.say,
        "resume": options.resume,
    }
    return {"user_model/ndcg@10": options.run(train_user_model, arguments).best}
