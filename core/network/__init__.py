"""The arch string, the network it describes, styles as rows, pixel conventions."""
