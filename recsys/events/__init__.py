"""The live event log: its stores (`interfaces.EventStore`), and what is read from it: labelled
examples, histories, item clicks."""
