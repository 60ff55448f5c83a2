"""The live event log: what shoppers did and were shown. An implementation of
`interfaces.EventStore` a file."""
