"""Process many photos: threads on this machine, Ray workers, and photos in folders and buckets."""
