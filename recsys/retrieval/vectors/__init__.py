"""Dense retrieval: exact, fp16, GPU and approximate nearest neighbours by inner product."""
