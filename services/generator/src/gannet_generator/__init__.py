"""The generator: streamed, cited answers over gRPC."""
