"""The gateway: documents, search and streamed answers over gRPC."""
