"""What the server tells of itself: metrics, logs, request ids, traces."""
