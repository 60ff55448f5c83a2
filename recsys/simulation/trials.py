"""The rows of `jobs.simulate_shop` that need no server: methods tried again and again on logs drawn
from a market.

Legend: B requests, N candidates.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np

from recsys.events import feedback
from recsys.experiments.chance import rng_of
from recsys.experiments.estimators import Estimate, estimates
from recsys.experiments.exploration import Exploration
from recsys.experiments.interleaving import preference, team_draft
from recsys.experiments.intervals import mean
from recsys.ranking.examination import Examination, from_swaps
from recsys.ranking.item_features import EXPOSURE_OF_THE_MEAN
from recsys.ranking.logged_rankings import split
from recsys.simulation.clicks import ClickModel, PositionBased, Spam
from recsys.simulation.drawn import HINTS, Scene, as_events, hints, logged, ordered
from recsys.simulation.market import Market
from recsys.simulation.measures import Row, Values, flip_followed, resampled
from recsys.types import Floats, Ints

#: Swaps enough for a curve of a few thousand requests.
SWAPS = Exploration("swap", share=0.5)
_ARMS = ("0", "1")


def by_popularity(scene: Scene) -> Floats:
    """What a shop that knows nothing but sales shows."""
    return (
        scene.hints_BNF[:, :, HINTS.index("popularity")]
        + 10 * scene.hints_BNF[:, :, HINTS.index("searched")]
    )


def debiased(
    market: Market, model: ClickModel, folder: Path, count: int = 8000, logs: int = 5, seed: int = 0
) -> Row:
    """True nDCG@10, on new requests, of trees debiased by the examination estimated from the log
    itself, over that of the same trees on raw clicks; less 1.

    The log is of a shop that ranks by sales. The mean over `logs` and what each taught, with
    Student's interval."""
    gains = [
        _debiased(market, model, folder / f"{number}", count, seed + number)
        for number in range(logs)
    ]
    found = mean(np.array(gains))
    return Row(
        "true nDCG, debiased over raw", 0.0, 0.05, found.value, *found.interval, by_interval=True
    )


def _debiased(market: Market, model: ClickModel, folder: Path, count: int, seed: int) -> float:
    from recsys.ranking.trees import TreeRanker
    from recsys.training.ranker import TreeRecipe, train_trees

    scene, test = Scene.of(market, count, seed), Scene.of(market, count // 2, seed + 1_000_000)
    lists = logged(scene, by_popularity(scene), SWAPS, model, seed)
    train, valid = split(lists)

    def ndcg(name: str, examination: Examination | None) -> float:
        train_trees(train, valid, examination, folder / name, TreeRecipe(seed=seed, threads=1))
        return float(test.true_ndcg(TreeRanker(folder / name).score(test.hints_BNF)).mean())

    return ndcg("debiased", from_swaps(lists, draws=20)) / ndcg("raw", None) - 1


def interleaving(
    market: Market, model: ClickModel, count: int = 12_000, seed: int = 0, apart: float = 0.05
) -> Row:
    """The requests that interleaving needs to find the better of two rankers, over those that an
    A/B test needs.

    The rankers are `apart` in their expected clicks. How many requests a test needs, whatever its
    level and power, goes with the square of its spread over its mean. A shopper always has the same
    arm, so the spread is that of shoppers."""
    scene = Scene.of(market, count, seed)
    worse_BN, better_BN = rivals(scene, model, apart)
    rng = np.random.default_rng([seed, 4])
    clicks_AB = [_clicks(scene, scores_BN, model, rng) for scores_BN in (worse_BN, better_BN)]
    true_AB = [scene.expected_clicks(scores_BN, model) for scores_BN in (worse_BN, better_BN)]
    votes_B = votes(scene, worse_BN, better_BN, model, rng, seed)

    gain = float(
        (true_AB[1] - true_AB[0]).mean()
    )  # small beside its spread: from the truth, not from the clicks

    counts_U = np.bincount(scene.users_B)
    sums_AU = [
        np.bincount(scene.users_B, values_B).astype(float) for values_B in (*clicks_AB, votes_B)
    ]

    def share(users: Ints | slice) -> float:
        one, other, drafted = (_spread(sums_U[users], counts_U[users]) for sums_U in sums_AU)
        vote = sums_AU[2][users].sum() / counts_U[users].sum()
        tested = 2 * (one + other) / gain**2  # two arms, each of half the traffic
        return float(drafted / max(vote, 1e-9) ** 2 / tested)

    name = "interleaving's traffic / that of A/B"
    return Row(name, 0.1, None, share(slice(None)), *resampled(len(counts_U), share), at_most=True)


def rivals(scene: Scene, model: ClickModel, apart: float) -> tuple[Floats, Floats]:
    """Scores of two rankers of the same hints, the second with (1 + apart) x the expected clicks of
    the first, which makes less of the ratings."""
    known = dict(zip(HINTS, np.moveaxis(scene.hints_BNF, 2, 0), strict=True))
    rest_BN = 10 * known["searched"] + known["affinity"] - known["dearness"]

    def clicks(weight: float) -> float:
        return float(scene.expected_clicks(rest_BN + weight * known["rating"], model).mean())

    goal, low, high = clicks(1.0) / (1 + apart), -1.0, 1.0
    for _ in range(30):
        weight = (low + high) / 2
        low, high = (low, weight) if clicks(weight) > goal else (weight, high)
    return rest_BN + low * known["rating"], rest_BN + known["rating"]


def _spread(sums_U: Values, counts_U: Ints) -> float:
    """Requests x the variance of their mean, from what each shopper's requests sum up to: those of
    one shopper are not independent."""
    middle = sums_U.sum() / counts_U.sum()
    return float(((sums_U - counts_U * middle) ** 2).sum() / counts_U.sum())


def _clicks(scene: Scene, scores_BN: Floats, model: ClickModel, rng: np.random.Generator) -> Values:
    """[B]: drawn clicks on the ten best."""
    shown_BK = np.take_along_axis(scene.attraction_BN, ordered(scores_BN)[:, :10], axis=1)
    return model.clicks(shown_BK, rng).sum(axis=1).astype(np.float64)


def votes(
    scene: Scene,
    worse_BN: Floats,
    better_BN: Floats,
    model: ClickModel,
    rng: np.random.Generator,
    seed: int,
) -> Values:
    """[B] 1 where the clicks on a shared list prefer the second ranker, -1 where the first, else
    0."""
    orders = zip(ordered(worse_BN), ordered(better_BN), strict=True)
    drafts = [
        team_draft(one_N, other_N, 10, rng_of(f"{seed}-{number}", "draft"))
        for number, (one_N, other_N) in enumerate(orders)
    ]
    places_BK = np.stack([places_K for places_K, _ in drafts])
    clicked_BK = model.clicks(np.take_along_axis(scene.attraction_BN, places_BK, axis=1), rng)
    names = [
        ["" if team < 0 else _ARMS[team] for team in teams_K.tolist()] for _, teams_K in drafts
    ]
    told = [
        preference(teams, clicks_K.tolist(), _ARMS)
        for teams, clicks_K in zip(names, clicked_BK, strict=True)
    ]
    return np.array(told, np.float64)


def off_policy(
    market: Market, model: PositionBased, count: int = 2000, repetitions: int = 100, seed: int = 0
) -> tuple[Row, Row]:
    """Of the doubly robust estimate of a new ranker's clicks, from logs of a shop that ranks by
    sales and swaps: how often its 95 % interval holds the truth, and how wide it is, as a share of
    that of IPS.

    The new ranker weighs the hints, and puts the logged items in another order. The truth is its
    mean over many requests. Intervals are over repetitions."""
    truth = float(
        np.mean(
            [
                _reordered(Scene.of(market, 10_000, seed + 1_000_000 + number), model)
                for number in range(4)
            ]
        )
    )
    drawn = [
        _estimated(Scene.of(market, count, seed + number), model, seed + number)
        for number in range(repetitions)
    ]
    held = np.array([each["dr"].low <= truth <= each["dr"].high for each in drawn], float)
    widths = np.array([each["dr"].width / each["ips"].width for each in drawn])
    names = "DR's 95 % interval holds the truth", "width of DR's interval / IPS's"
    bounds = (
        _wilson(held.mean(), len(held)),
        resampled(len(widths), lambda places: float(widths[places].mean())),
    )
    return (
        Row(names[0], 0.9, None, float(held.mean()), *bounds[0]),
        Row(names[1], None, 0.5, float(widths.mean()), *bounds[1], at_most=True),
    )


def _wilson(share: float, count: int) -> tuple[float, float]:
    """The 95 % score interval of a share (Wilson 1927)."""
    z = 1.96
    middle, reach = (
        share + z**2 / (2 * count),
        z * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2)),
    )
    return float((middle - reach) / (1 + z**2 / count)), float(
        (middle + reach) / (1 + z**2 / count)
    )


def weighed(hints_BNF: Floats) -> Floats:
    """A ranker that weighs what the shop knows."""
    return hints_BNF @ np.array([0.0, -1.0, 1.0, 1.0, 10.0], np.float32)


def _reordered(scene: Scene, model: PositionBased) -> float:
    """Expected clicks a request where `weighed` orders the ten that sales would show."""
    places_BK = ordered(by_popularity(scene))[:, :10]
    order_BK = ordered(np.take_along_axis(weighed(scene.hints_BNF), places_BK, axis=1))
    listed_BK = np.take_along_axis(places_BK, order_BK, axis=1)
    return float(model.expected(np.take_along_axis(scene.attraction_BN, listed_BK, axis=1)).mean())


def _estimated(scene: Scene, model: PositionBased, seed: int) -> dict[str, Estimate]:
    """What a log of this scene says of `weighed`, by estimator; the examination curve is estimated,
    too."""
    lists = logged(scene, by_popularity(scene), SWAPS, model, seed)
    found = estimates(lists, weighed(lists.features_BKF), from_swaps(lists, draws=50), SWAPS, seed)
    return {each.name: each for each in found}


def spammed(
    market: Market, model: PositionBased, count: int = 10_000, items: int = 6, seed: int = 0
) -> Row:
    """Places that an item moves among its category's by its attraction, the click rate that rankers
    see.

    1 % of the shoppers click it wherever it is shown, and ask for its category 20 times as often as
    others ask for anything, all in one day. The mean over `items`, each the middle one of a
    category."""
    scene = Scene.of(market, count, seed)
    spammers = np.arange(max(1, market.shoppers // 100))
    moves = []
    for target in _middling(market)[:items]:
        busy = _busy(scene, spammers, int(market.categories_I[target]), seed)
        honest, spammy = (
            _attraction(busy, model, seed, spam)
            for spam in (None, Spam(spammers.tolist(), int(target)))
        )
        moves.append(abs(_place(market, honest, int(target)) - _place(market, spammy, int(target))))
    values = np.array(moves, float)
    bounds = resampled(len(values), lambda places: float(values[places].mean()))
    return Row(
        "places that spam moves an item, by attraction",
        5.0,
        None,
        float(values.mean()),
        *bounds,
        at_most=True,
    )


def _middling(market: Market) -> Ints:
    """Of each category the item in its middle, by its mean attraction."""
    mean_I = market.attraction_UI.mean(axis=0)
    members = [
        np.flatnonzero(market.categories_I == category) for category in range(len(market.words))
    ]
    return np.array([rows[np.argsort(mean_I[rows])[len(rows) // 2]] for rows in members])


def _busy(scene: Scene, spammers: Ints, category: int, seed: int) -> Scene:
    """The scene with more requests by the spammers, 20 times as many as another has, all for the
    category."""
    market, rng = scene.market, np.random.default_rng([seed, 6])
    users_B = np.repeat(spammers, 20 * len(scene) // market.shoppers)
    wanted_B = np.full(len(users_B), category)
    members = np.flatnonzero(market.categories_I == category)
    width = scene.rows_BN.shape[1]
    rows_BN = np.stack([rng.permutation(members)[:width] for _ in users_B]).astype(np.int32)
    more = Scene(market, users_B, wanted_B, rows_BN, hints(market, users_B, wanted_B, rows_BN))
    names = ("users_B", "wanted_B", "rows_BN", "hints_BNF")
    return Scene(
        market, *(np.concatenate([getattr(scene, name), getattr(more, name)]) for name in names)
    )


def _attraction(scene: Scene, model: PositionBased, seed: int, spam: Spam | None) -> Floats:
    """[I] the click rate without the effect of the place, as a night counts it from the log of this
    scene."""
    rng = np.random.default_rng([seed, 7])
    lists = logged(
        scene, rng.random(scene.rows_BN.shape, np.float32), SWAPS, model, seed, spam=spam
    )
    examined = Examination(*(np.array(model.curve, np.float32),) * 3).at
    impressions, interactions = as_events(lists)
    until = impressions[-1].time
    counted = feedback.attraction(
        impressions, [interactions], examined, until - timedelta(days=1), until
    )
    rows = scene.market.rows(counted["item_id"].to_pylist(), counted.num_rows)
    exposure_I, clicks_I = np.zeros((2, len(scene.market.ids)))
    exposure_I[rows], clicks_I[rows] = counted["exposure"], counted["clicks"]
    rate = clicks_I.sum() / exposure_I.sum()
    return (clicks_I + rate * EXPOSURE_OF_THE_MEAN) / (exposure_I + EXPOSURE_OF_THE_MEAN)


def _place(market: Market, attraction_I: Floats, row: int) -> int:
    """Places above the item in its category."""
    rivals_I = market.categories_I == market.categories_I[row]
    return int((attraction_I[rivals_I] > attraction_I[row]).sum())


def flipped(
    market: Market,
    model: ClickModel,
    folder: Path,
    count: int = 1000,
    chunk: int = 50,
    seed: int = 0,
) -> Row:
    """Events until a network that learns by day follows a preference that flips at noon
    (`measures.flip_followed`).

    At night it learned from a log of a shop that ranks by sales; in the afternoon it serves `chunk`
    requests, learns from them, serves the next ones."""
    from recsys.training.influence import OnlineConfig
    from recsys.training.last_layer import OnlineLearner
    from recsys.training.ranker import NetRecipe, train_net

    past = Scene.of(market, 6 * count, seed)
    lists = logged(past, by_popularity(past), SWAPS, model, seed)
    examination = from_swaps(lists, draws=20)
    train_net(*split(lists), examination, folder, NetRecipe(seed=seed))
    learner = OnlineLearner(folder, OnlineConfig(), examination)
    morning, afternoon = (Scene.of(market, count, seed + 1_000_000 + number) for number in (0, 1))
    scores_BN, truth = learner.score(morning.hints_BNF), market.flipped()
    after, events = [], []
    for start in range(0, count, chunk):
        part = afternoon.part(slice(start, start + chunk), truth)
        asked_BN = learner.score(part.hints_BNF)
        shown_lists = logged(part, asked_BN, SWAPS, model, seed + start)
        impressions, interactions = as_events(shown_lists)
        learner.learn(feedback.join(impressions, [interactions]))
        after.append(part.true_ndcg(asked_BN))
        events.append(shown_lists.clicked_BK.sum(axis=1))
    at_noon_B = morning.part(slice(None), truth).true_ndcg(scores_BN)
    events_B = np.concatenate(events)
    row = flip_followed(
        morning.true_ndcg(scores_BN),
        at_noon_B,
        np.concatenate(after),
        events_B,
        int(events_B.sum()),
        chunk,
    )
    return replace(row, name="events until a flip is followed, drawn log")
