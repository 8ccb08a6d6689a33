"""Files, locks, digests, tensor files, schemas, progress bars, the cache folder and user code."""
