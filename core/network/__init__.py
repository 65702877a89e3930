"""Networks: the arch string, the network it describes, styles as rows, and pixel conventions."""
