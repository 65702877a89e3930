"""Networks with a name: the manifest, downloads, and what is on this machine."""
