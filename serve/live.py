"""The release that is served: follows the store's `current`, and swaps between two requests."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from recsys.config import Setup
from recsys.errors import NotFoundError, RecsysError, ReleaseError, SpaceMismatchError
from recsys.models.composition import build_recommender, load_ranker, with_models
from recsys.models.snapshots import current_snapshot, snapshot_network
from recsys.pipeline.recommender import Recommender
from recsys.privacy.erasure import time_of
from recsys.release.release import Release, read_manifest
from recsys.storage.artifacts import ArtifactStore
from recsys.types import Filters, Query
from serve import metrics

logger = logging.getLogger("ray.serve")

#: The ranker that learns by day.
ONLINE = "net"
#: A refused release is tried again after so long: a bucket that could not be reached may be back.
RETRY_S = 30.0


class LiveRelease:
    """`recommender` is read once per request, so that items, scores and version of an answer are of
    one release.

    Releases of another space than the encoder's, `space`, are refused.
    """

    def __init__(self, setup: Setup, space: str) -> None:
        self.setup, self.store = setup, ArtifactStore(setup.home)
        self.space = space
        self.recommender: Recommender | None = None
        self.refused: dict[str, str] = {}
        self._tried: dict[tuple[str, str], float] = {}
        self._other: Recommender | None = None
        self._swapping = threading.Lock()
        self.refresh()

    @property
    def version(self) -> str | None:
        return live.release.version if (live := self.recommender) else None

    def follow(self, closed: threading.Event) -> None:
        """Looks every `day.refresh_s` until closed."""
        while not closed.wait(self.setup.day.refresh_s):
            self.refresh()
            if live := self.recommender:
                metrics.RELEASE_AGE.set((datetime.now(UTC) - created(live.release)).total_seconds())

    def listed(self) -> list[dict[str, Any]]:
        """Every published version, oldest first; of an unreadable one, why."""
        current, live = self.store.current(), self.version
        told = []
        for version in self.store.versions():
            try:
                manifest = read_manifest(self.store, version)
                kept = {
                    "created": manifest.created,
                    "space": manifest.space,
                    "counts": manifest.counts,
                }
            except RecsysError as error:
                kept = {"error": str(error)}
            told.append(
                {"version": version, "current": version == current, "live": version == live, **kept}
            )
        return told

    def promote(self, version: str) -> None:
        """Loads it, points `current` at it, serves it; an error leaves all as it was."""
        with self._swapping:
            if version not in (there := self.store.versions()):
                raise NotFoundError(
                    f"release {version!r} is not there: choose one of {', '.join(there) or 'none yet'}"
                )
            recommender = self._open(version)
            self.store.point(version)
            self._swap(recommender)

    def opened(self, version: str) -> Recommender:
        """The release as it answers, to look into: the served one, or another that is kept open
        until the next."""
        if (live := self.recommender) and live.release.version == version:
            return live
        if self._other is None or self._other.release.version != version:
            self._other = self._open(version)
        return self._other

    def refresh(self) -> None:
        """Loads what `current` names beside what is served, and swaps; what cannot be loaded is
        refused, once told."""
        with self._swapping:
            version = "current"
            try:
                version = self.store.current() or ""
                amended = self._amended(version)
                if self._is_news(version, amended):
                    self._tried = {(version, amended): time.monotonic()}
                    self._swap(self._open(version))
                self._let_go()
                self._take_snapshot()
                self.refused.pop("current", None)
            except Exception as error:  # a bucket that cannot be reached must not end the thread
                self._refuse(version, error)

    def _take_snapshot(self) -> None:
        """The newest of what was learned by day, if it grew from the served models; else the
        night's network."""
        live = self.recommender
        if live is None or self.setup.day.online is None or ONLINE not in live.reranker.rankers:
            return
        base = live.release.manifest.models
        snapshot = current_snapshot(self.setup, base)
        label = f"{ONLINE}@{base}+{snapshot.version}" if snapshot else f"{ONLINE}@{base}"
        if label == live.reranker.labels[ONLINE]:
            return
        folder = snapshot_network(self.setup, snapshot) if snapshot else None
        ranker = load_ranker(folder) if folder else with_models(self.setup, base).rankers[ONLINE]()
        reranker = live.reranker
        rankers, labels = {**reranker.rankers, ONLINE: ranker}, {**reranker.labels, ONLINE: label}
        self.recommender = replace(live, reranker=replace(reranker, rankers=rankers, labels=labels))
        logger.info("%s ranks from now on", label)

    def _is_news(self, version: str, amended: str) -> bool:
        live = self.recommender
        if not version or (
            live and (version, amended) == (live.release.version, live.release.manifest.amended)
        ):
            return False
        return time.monotonic() - self._tried.get((version, amended), -RETRY_S) >= RETRY_S

    def _amended(self, version: str) -> str:
        """The folder of the release's last amendment; of what cannot be read, opening says why."""
        try:
            return read_manifest(self.store, version).amended if version else ""
        except RecsysError:
            return ""

    def _let_go(self) -> None:
        """What was amended since it was opened is not kept: nobody who left is looked up in it."""
        other = self._other
        if other and self._amended(other.release.version) != other.release.manifest.amended:
            self._other = None

    def _open(self, version: str) -> Recommender:
        """The release, every checksum compared, and one answer from it: it is served only if it can
        answer."""
        try:
            release = Release.open(self.store, version, self.space)
            recommender = build_recommender(
                with_models(self.setup, release.manifest.models), release
            )
            _warm_up(recommender)
            created(release)
        except (SpaceMismatchError, ReleaseError):
            raise
        except Exception as error:  # whatever a damaged file or a shop's own part may raise
            reason = f"{type(error).__name__}: {error}"
            raise ReleaseError(
                f"release {version} cannot answer ({reason}): promote another one"
            ) from error
        return recommender

    def _swap(self, recommender: Recommender) -> None:
        self.recommender = recommender
        self.refused.pop(recommender.release.version, None)
        logger.info("release %s is live", recommender.release.version)

    def _refuse(self, version: str, error: Exception) -> None:
        sentence = (
            str(error) if isinstance(error, RecsysError) else f"{type(error).__name__}: {error}"
        )
        if self.refused.get(version) != sentence:
            metrics.RELEASES_REFUSED.inc()
            logger.error(
                "release %s is refused, %s goes on: %s",
                version,
                self.version or "nothing",
                sentence,
            )
        self.refused = {**self.refused, version: sentence}


def _warm_up(recommender: Recommender) -> None:
    """What is computed once per release is computed now, not in somebody's request."""
    filters = Filters(category=("",), brand=("",), min_price=0.0)
    recommender.recommend(Query(request_id="warm up", k=1, filters=filters))
    title = recommender.release.item(0).title or "warm up"
    search = Query(
        request_id="warm up",
        k=1,
        text=title,
        filters=filters,
        sort="newest",
        collapse=True,
        facets=True,
    )
    recommender.search(search, np.array(recommender.release.item_vectors_ID[0]))
    recommender.release.suggestions.complete("warm up")


def created(release: Release) -> datetime:
    """When the release's night began: what users did later is not in it."""
    return time_of(release.manifest)
