"""Many photos: local workers, Ray, paths and buckets."""
