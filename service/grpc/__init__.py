"""The Open Inference Protocol over gRPC: `inference.GRPCInferenceService`, on a port of its own.

Needs grpcio and protobuf (`pip install 'mcdrop[grpc]'`); of this package `endpoint` alone can be
imported without them.
"""
