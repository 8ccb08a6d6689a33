"""Files, locks, digests, tensors, schemas, progress bars, the cache folder, cores, user code."""
