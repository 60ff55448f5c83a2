"""Influence limits of online learning (a daily vote budget per user and origin) and its other
choices. Plain Python: no torch.

A source is a user, or an origin (the keyed hash of an address).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from recsys.errors import InputError
from recsys.experiments.hashing import uniform_hash

#: What lists are counted under that have neither a user nor a known address: all such are one
#: source.
NOBODY = "nobody"


@dataclass(frozen=True, kw_only=True)
class OnlineConfig:
    """Choices of online learning; `training.last_layer` says what they bound.

    A list moves the weights by `learning_rate` at most, its vote, and they never leave the ball of
    `radius` times the nightly ones' norm. After it one of `reservoir` lists of earlier days is
    learned again, with `replay` of its vote. A user has `user_votes` a UTC day, an origin
    `origin_votes`; a list takes a fifth to a half of one. Of a user at one origin,
    `max_item_clicks` lists with a click on the same item count.

    The share `holdout` of the lists is never learned from: the last `holdout_window` of them
    evaluate the model as soon as there are `min_holdout`. `clip` bounds a click's weight by inverse
    propensity.

    The trainer polls the log every `poll_interval_s` seconds, learns a list with feedback
    `feedback_delay_s` after its impression at the earliest and `attribution_window_s` at the
    latest, and publishes a snapshot every `snapshot_interval_s`. `surfaces` are
    those that are learned from, empty all."""

    learning_rate: float = 0.25
    radius: float = 1.5
    replay: float = 0.25
    reservoir: int = 500
    user_votes: float = 0.6
    origin_votes: float = 0.6
    max_item_clicks: int = 2
    holdout: float = 0.1
    min_holdout: int = 20
    holdout_window: int = 100
    clip: float = 4.0
    poll_interval_s: float = 5.0
    feedback_delay_s: float = 30.0
    attribution_window_s: float = 1800.0
    snapshot_interval_s: float = 60.0
    surfaces: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in (
            "learning_rate",
            "radius",
            "user_votes",
            "origin_votes",
            "poll_interval_s",
            "attribution_window_s",
            "snapshot_interval_s",
        ):
            if not getattr(self, name) > 0:
                raise InputError(
                    f"{name} of online learning is {getattr(self, name)}: give more than 0"
                )
        for name in ("reservoir", "min_holdout", "max_item_clicks"):
            if getattr(self, name) < 1:
                raise InputError(
                    f"{name} of online learning is {getattr(self, name)}: give 1 or more"
                )
        if not (
            0 <= self.replay <= 1
            and 0 < self.holdout < 1
            and self.clip >= 1
            and self.feedback_delay_s >= 0
        ):
            raise InputError(
                f"online learning has replay {self.replay}, holdout {self.holdout}, "
                f"clip {self.clip} and feedback_delay_s {self.feedback_delay_s}: "
                "give a replay of 0 to 1, a holdout between 0 and 1, a clip of 1 or more "
                "and a feedback_delay_s of 0 or more"
            )
        if self.min_holdout > self.holdout_window:
            raise InputError(
                f"{self.holdout_window} recent held-out lists never make {self.min_holdout}: "
                "raise holdout_window"
            )

    @property
    def vote(self) -> float:
        """How far one whole vote moves the weights, replay counted."""
        return self.learning_rate * (1 + self.replay)

    @property
    def user_influence_bound(self) -> float:
        """How far the weights can lie at the day's end from where they would without one user's
        lists, from whatever addresses; what others at their addresses then can no longer teach is
        not counted."""
        return self.user_votes * self.vote

    @property
    def source_influence_bound(self) -> float:
        """The same for one origin, under whatever users' names, or a user at one address, all
        counted: the lists of the source, and as much again of those that can no longer teach as it
        used up their users' or its own votes."""
        return 2 * max(self.user_votes, self.origin_votes) * self.vote


class InfluenceBudget:
    """The daily vote budgets of users and origins. Which lists are learned, and with what weight,
    depends on the lists alone and never on the model.

    First the origin pays, then the user, of what the origin could: nobody's list is paid for by
    more than those two, and an address that forges names uses up no more of their votes than it has
    itself."""

    def __init__(
        self, choices: OnlineConfig = OnlineConfig(), spent: Mapping[str, Any] | None = None
    ) -> None:
        self.choices = choices
        self.day: str = (spent or {}).get("day", "")
        self.spent: dict[str, float] = defaultdict(float, (spent or {}).get("votes", {}))

    def state(self) -> dict[str, Any]:
        """What `InfluenceBudget(choices, spent)` goes on from, as JSON has it."""
        return {"day": self.day, "votes": dict(self.spent)}

    def admitted(
        self,
        votes: float,
        user: str | None,
        origins: Collection[str | None],
        items: Collection[str],
        moment: datetime,
    ) -> float:
        """The share of a list's `votes` that may teach, from 0 to 1; it is spent then.

        `origins` and `items` are those of its clicks. Where the log has no addresses, only the user
        pays: then who forges names is not held back. A list of an earlier day, late, counts to the
        newest one."""
        self._turn(moment)
        names = sorted({origin for origin in origins if origin is not None})
        if not names and user is None:
            names = [NOBODY]
        marks = [
            f"click\x1f{user}\x1f{name}\x1f{item}" for name in names or [""] for item in set(items)
        ]
        if any(self.spent[mark] >= self.choices.max_item_clicks for mark in marks):
            return 0.0
        for mark in marks:
            self.spent[mark] += 1
        paid = self._pay([f"origin\x1f{name}" for name in names], votes, self.choices.origin_votes)
        if user is not None:
            paid = self._pay([f"user\x1f{user}"], paid, self.choices.user_votes)
        return paid / votes if votes > 0 else 0.0

    def forget(self, users: Collection[str]) -> None:
        """Nothing of what these users spent or clicked stays."""
        for key in [key for key in self.spent if names_user(key, users)]:
            del self.spent[key]

    def _pay(self, payers: Collection[str], votes: float, most: float) -> float:
        """What all of them still can, at most `votes`."""
        paid = max(0.0, min([votes, *(most - self.spent[payer] for payer in payers)]))
        for payer in payers:
            self.spent[payer] += paid
        return paid

    def _turn(self, moment: datetime) -> None:
        """A new day begins with nothing spent."""
        day = moment.astimezone(UTC).date().isoformat()
        if day > self.day:
            self.day = day
            self.spent.clear()


def names_user(key: str, users: Collection[str]) -> bool:
    """Whether a key of the budget names one of these users."""
    kind, _, rest = key.partition("\x1f")
    return kind in ("user", "click") and rest.split("\x1f")[0] in users


def is_held_out(request_id: str, share: float) -> bool:
    """Whether a request's list is for judging alone: by hash, so that nobody can choose it."""
    return uniform_hash("online holdout", request_id) < share
