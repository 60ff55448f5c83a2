"""Exports of shop platforms, product feeds and event trackers as they come, one module a platform.

`Shopify(products="products_export.csv", orders="orders_export.csv")` is a `DatasetAdapter`. A
module knows what its platform's columns and rows mean; how a cell is written (money, times, HTML,
words) is read by `datasets.validate`, as in every other shop."""
