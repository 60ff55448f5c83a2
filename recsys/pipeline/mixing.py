"""Sources asked together, and a mixer learned from what users did next."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from recsys.interfaces import UserModel
from recsys.pipeline import sources
from recsys.pipeline.candidates import gather
from recsys.types import Floats, Histories, Mask, Requests, Rows

#: rows_BN, features_BNF and who brought what, as `funnel.gather` gives them.
Ask = Callable[[Histories], tuple[Rows, Floats, Mask]]


def asking(of: sources.Fitted, names: Sequence[str], users: UserModel, k: int = 1) -> Ask:
    """What the sources bring for a block of histories at the time that they were fitted to; k or
    more of each."""
    retrievers = sources.sources(names, of)

    def ask(asked: Histories) -> tuple[Rows, Floats, Mask]:
        vectors_BD = users.encode_history(asked, of.items_ID)
        return gather(
            retrievers,
            Requests(
                size=len(asked),
                texts=None,
                vectors_BD=vectors_BD,
                histories=asked,
                now_days=of.now_days,
            ),
            k,
            None,
            {},
        )

    return ask
