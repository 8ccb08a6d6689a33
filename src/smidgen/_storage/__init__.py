"""Files, folders, locks, digests and serialization: what others write to the disk with."""
