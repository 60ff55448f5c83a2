"""From logs and judgements to published models, past the gate; offline and online."""
