"""Lexical retrieval: text analysis, BM25, query expansion, synonyms, highlighting, TF-IDF."""
