"""Opens the blob store that the configuration names."""

from pathlib import Path

from gannet_gateway.blobs.blobs import Blobs
from gannet_gateway.blobs.directory import DirectoryStore
from gannet_gateway.blobs.s3 import BucketStore
from gannet_gateway.config import GatewayConfig


def open_blobs(config: GatewayConfig) -> Blobs:
    """A directory below `data_dir`, or the bucket of `blob_url`; raises OSError for a file of credentials that cannot be read."""
    if config.blob_url is None:
        return Blobs(DirectoryStore(config.data_dir / "blobs"))
    credentials = None
    if config.blob_access_key_id_file is not None and config.blob_secret_access_key_file is not None:
        credentials = (_secret(config.blob_access_key_id_file), _secret(config.blob_secret_access_key_file))
    return Blobs(
        BucketStore(
            config.blob_url,
            endpoint=config.blob_endpoint,
            region=config.blob_region,
            credentials=credentials,
            timeout_s=config.blob_timeout_s,
            part_bytes=config.blob_part_bytes,
        )
    )


def _secret(path: Path) -> str:
    return path.read_text(encoding="utf-8").strip()
