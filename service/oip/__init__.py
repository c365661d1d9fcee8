"""The Open Inference Protocol, whatever it travels in: JSON, JSON with binary tensors, gRPC."""
