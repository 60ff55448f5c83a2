"""The only room with Ray: a night's stages, training and tuning on many workers."""
