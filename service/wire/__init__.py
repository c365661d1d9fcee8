"""Bodies as they travel: JSON, .npy and raw arrays, compressed or not."""
