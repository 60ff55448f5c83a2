"""A market whose truth is known: real products, shoppers with hidden tastes, and how they look at a
list.

`market` says what is wanted, `clicks` what is looked at and clicked, `shopper` asks a running shop,
`measures` compares what a shop learned with the truth. Nothing here is seen by the shop but
requests and events."""
