"""Collaborative filtering and statistics of behaviour, each as a retriever."""
