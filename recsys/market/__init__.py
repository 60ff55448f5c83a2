"""A market whose truth is known: products, shoppers with tastes, and how they click and buy."""
