"""A local S3 server, as the environment of this process and of those it starts names it."""

from collections.abc import Iterator
from contextlib import contextmanager

import fsspec
import pytest
from moto.server import ThreadedMotoServer


@contextmanager
def s3_server(bucket: str, port: int = 0) -> Iterator[ThreadedMotoServer]:
    """Starts a server that holds `bucket`, on a free port unless one is given."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        environment.setenv("AWS_ACCESS_KEY_ID", "test")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "test")
        environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
        # fsspec keeps a file system with the address of the server of an earlier test.
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        fsspec.filesystem("s3").makedirs(bucket, exist_ok=True)
        try:
            yield server
        finally:
            server.stop()
            fsspec.get_filesystem_class("s3").clear_instance_cache()
