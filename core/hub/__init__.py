"""Networks by name: the manifest, downloads, and the files already on this machine."""
