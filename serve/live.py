"""The live release: follows the store's `current` pointer, and swaps between two requests."""

from __future__ import annotations

import logging
import math
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
from recsys.privacy.erasure import release_time
from recsys.release.manifest import read_manifest
from recsys.release.release import Release
from recsys.storage.artifacts import ArtifactStore
from recsys.types import Filters, Query
from serve import metrics

logger = logging.getLogger("ray.serve")

#: The ranker that is trained by day too.
ONLINE_RANKER = "net"
#: A refused release is loaded again after this long: an unreachable bucket may be back.
RETRY_S = 30.0


class LiveRelease:
    """Requests read `recommender` once, so that items, scores and version of an answer are of one
    release.

    Releases of another space than the encoder's, `space`, are refused."""

    def __init__(self, setup: Setup, space: str) -> None:
        self.setup, self.store = setup, ArtifactStore(setup.home)
        self.space = space
        self.recommender: Recommender | None = None
        self.refused: dict[str, str] = {}
        self._attempts: dict[tuple[str, str], float] = {}
        self._inspected: Recommender | None = None
        self._swap_lock = threading.Lock()
        self.refresh()

    @property
    def version(self) -> str | None:
        return live.release.version if (live := self.recommender) else None

    def follow(self, closed: threading.Event) -> None:
        """Refreshes every `day.refresh_s` until closed."""
        while not closed.wait(self.setup.day.refresh_s):
            self.refresh()
            if live := self.recommender:
                age = datetime.now(UTC) - start_of_night(live.release)
                metrics.RELEASE_AGE.set(age.total_seconds())

    def list_releases(self) -> list[dict[str, Any]]:
        """Every published version, oldest first; for an unreadable one, the reason."""
        current, live = self.store.current(), self.version
        return [
            {
                "version": version,
                "current": version == current,
                "live": version == live,
                **self._describe_release(version),
            }
            for version in self.store.versions()
        ]

    def _describe_release(self, version: str) -> dict[str, Any]:
        try:
            manifest = read_manifest(self.store, version)
        except RecsysError as error:
            return {"error": str(error)}
        return {"created": manifest.created, "space": manifest.space, "counts": manifest.counts}

    def promote(self, version: str) -> None:
        """Loads it, points `current` at it, serves it; an error leaves all as it was."""
        with self._swap_lock:
            if version not in (versions := self.store.versions()):
                choices = ", ".join(versions) or "none yet"
                raise NotFoundError(f"release {version!r} is not there: choose one of {choices}")
            recommender = self._load(version)
            self.store.point(version)
            self._swap(recommender)

    def inspect(self, version: str) -> Recommender:
        """A recommender over any release, to explain its answers: the live one, or another that
        stays open until the next is inspected."""
        if (live := self.recommender) and live.release.version == version:
            return live
        if self._inspected is None or self._inspected.release.version != version:
            self._inspected = self._load(version)
        return self._inspected

    def refresh(self) -> None:
        """Loads what `current` names beside what is served, and swaps; what cannot be loaded is
        refused, and logged once."""
        with self._swap_lock:
            version = "current"
            try:
                version = self.store.current() or ""
                amended = self._amended(version)
                if self._needs_loading(version, amended):
                    self._attempts = {(version, amended): time.monotonic()}
                    self._swap(self._load(version))
                self._drop_erased()
                self._take_snapshot()
                self.refused.pop("current", None)
            except Exception as error:  # an unreachable bucket must not end the thread
                self._refuse(version, error)

    def _take_snapshot(self) -> None:
        """Serves the newest snapshot of online learning that grew from the served models; without
        one, the night's network."""
        live = self.recommender
        if live is None or self.setup.day.online is None:
            return
        reranker, base = live.reranker, live.release.manifest.models
        if ONLINE_RANKER not in reranker.rankers:
            return
        snapshot = current_snapshot(self.setup, base)
        label = f"{ONLINE_RANKER}@{base}" + (f"+{snapshot.version}" if snapshot else "")
        if label == reranker.labels[ONLINE_RANKER]:
            return
        if snapshot:
            ranker = load_ranker(snapshot_network(self.setup, snapshot))
        else:
            ranker = with_models(self.setup, base).rankers[ONLINE_RANKER]()
        rankers = {**reranker.rankers, ONLINE_RANKER: ranker}
        labels = {**reranker.labels, ONLINE_RANKER: label}
        self.recommender = replace(live, reranker=replace(reranker, rankers=rankers, labels=labels))
        logger.info("%s is the live ranker", label)

    def _needs_loading(self, version: str, amended: str) -> bool:
        if not version:
            return False
        if live := self.recommender:
            manifest = live.release.manifest
            if (version, amended) == (live.release.version, manifest.amended):
                return False
        since_attempt_s = time.monotonic() - self._attempts.get((version, amended), -math.inf)
        return since_attempt_s >= RETRY_S

    def _amended(self, version: str) -> str:
        """The folder of the release's last amendment; why one cannot be read, loading says."""
        try:
            return read_manifest(self.store, version).amended if version else ""
        except RecsysError:
            return ""

    def _drop_erased(self) -> None:
        """Closes the inspected release where users were erased from it since it was opened."""
        if inspected := self._inspected:
            release = inspected.release
            if self._amended(release.version) != release.manifest.amended:
                self._inspected = None

    def _load(self, version: str) -> Recommender:
        """The release with every checksum compared, and one answer computed from it: what cannot
        answer is not served."""
        try:
            release = Release.open(self.store, version, self.space)
            setup = with_models(self.setup, release.manifest.models)
            recommender = build_recommender(setup, release)
            _warm_up(recommender)
            start_of_night(release)
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
        reason = metrics.describe_error(error)
        if self.refused.get(version) != reason:
            metrics.RELEASES_REFUSED.inc()
            live = self.version or "none"
            logger.error("release %s is refused, %s stays live: %s", version, live, reason)
        self.refused = {**self.refused, version: reason}


def _warm_up(recommender: Recommender) -> None:
    """Computes now what is computed once per release, rather than in the first requests."""
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


def start_of_night(release: Release) -> datetime:
    """Events later than this are not in the release."""
    return release_time(release.manifest)
