"""One night's artifacts: what they are, opening, checking and reporting them."""
