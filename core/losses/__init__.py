"""The loss network, the losses, the objective and the metrics."""
