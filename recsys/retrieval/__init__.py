"""Candidate generation: lexical, dense, behavioural and content-based retrieval."""
