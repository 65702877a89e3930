"""Video files: frames in, frames out, with sound and time stamps."""
