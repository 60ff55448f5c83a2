"""What changes of items all day: prices, stock, visibility, as columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys.release.arrow import visible_items
from recsys.types import Mask


@dataclass(frozen=True, kw_only=True)
class ItemValues:
    """One of each an item; prices are NaN where there is none."""

    price: NDArray[np.float64]
    list_price: NDArray[np.float64]
    in_stock: Mask
    hidden: Mask

    @classmethod
    def of(cls, items: pa.Table) -> ItemValues:
        """Of the columns of `tables.ITEMS`; those of before there was a list price or a hidden item
        have none."""
        names, nothing = items.column_names, pa.nulls(items.num_rows, pa.float64())
        prices = (items[name] if name in names else nothing for name in ("price", "list_price"))
        price, list_price = (np.array(column.cast(pa.float64()).to_numpy()) for column in prices)
        return cls(
            price=price,
            list_price=list_price,
            in_stock=np.array(items["in_stock"].fill_null(True)).astype(bool),
            hidden=~visible_items(items),
        )

    def __len__(self) -> int:
        return len(self.price)

    def first(self, size: int) -> ItemValues:
        """Those of the first items."""
        return ItemValues(**{name: column[:size] for name, column in vars(self).items()})

    def followed_by(self, later: ItemValues) -> ItemValues:
        """With more items behind."""
        columns = vars(self).items()
        return ItemValues(
            **{name: np.concatenate([own, getattr(later, name)]) for name, own in columns}
        )

    def changed(self, cells: Iterable[tuple[int, Mapping[str, Any]]]) -> ItemValues:
        """With these values of these rows; other fields are not looked at."""
        columns = {name: column.copy() for name, column in vars(self).items()}
        for row, values in cells:
            for name in columns.keys() & values.keys():
                columns[name][row] = _cell(name, values[name])
        return ItemValues(**columns)


#: The fields of an item that are its values.
VALUES = tuple(ItemValues.__dataclass_fields__)


def _cell(name: str, value: Any) -> float | bool:
    if name in ("price", "list_price"):
        return np.nan if value is None else float(value)
    return value is not False if name == "in_stock" else bool(value)
