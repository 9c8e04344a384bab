"""A BigQuery on this machine: tables over REST, and read sessions in Arrow over gRPC.

Beam's and Google's own clients talk to it; only the addresses they call are others.
"""

import contextlib
import dataclasses
import http.server
import json
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pyarrow as pa
import pytest
from apache_beam.internal.gcp import auth
from apache_beam.io.gcp import bigquery
from apache_beam.io.gcp.internal.clients.bigquery.bigquery_v2_client import BigqueryV2
from google.auth.credentials import AnonymousCredentials
from google.cloud.bigquery_storage_v1 import BigQueryReadClient, types
from google.cloud.bigquery_storage_v1.services.big_query_read.transports import (
    BigQueryReadGrpcTransport,
)

_SERVICE = "google.cloud.bigquery.storage.v1.BigQueryRead"
_REST = re.compile(r"/bigquery/v2/projects/([^/]+)/datasets/([^/]+)/tables/([^/?]+)")


@dataclasses.dataclass
class FakeBigQuery:
    """The service.

    Attributes:
        tables: `project.dataset.table` to its rows.
        kinds: `TABLE` by default, or `VIEW`.
        changed: `project.dataset.table` to the time of the last change, in milliseconds.
        streams: How many streams a session has.
        batch_rows: Rows of a message.
        break_once_at: The first stream to get there breaks after so many rows, once.
        sessions: What was asked for.
    """

    tables: dict[str, pa.Table] = dataclasses.field(default_factory=dict)
    kinds: dict[str, str] = dataclasses.field(default_factory=dict)
    changed: dict[str, int] = dataclasses.field(default_factory=dict)
    streams: int = 1
    batch_rows: int = 1000
    break_once_at: int | None = None
    sessions: list[types.ReadSession] = dataclasses.field(default_factory=list)

    def describe(self, project: str, dataset: str, table: str) -> dict | None:
        """The table as REST has it; numbers are strings."""
        name = f"{project}.{dataset}.{table}"
        if name not in self.tables:
            return None
        rows = self.tables[name]
        fields = [{"name": f.name, "type": "STRING", "mode": "NULLABLE"} for f in rows.schema]
        return {
            "tableReference": {"projectId": project, "datasetId": dataset, "tableId": table},
            "type": self.kinds.get(name, "TABLE"),
            "numRows": str(len(rows)),
            "numBytes": str(rows.nbytes),
            "lastModifiedTime": str(self.changed.get(name, 1_700_000_000_000)),
            "schema": {"fields": fields},
        }

    def create_read_session(self, request: types.CreateReadSessionRequest, _) -> types.ReadSession:
        session = request.read_session
        self.sessions.append(session)
        assert session.data_format == types.DataFormat.ARROW
        number = len(self.sessions) - 1
        streams = [f"sessions/{number}/streams/{s}" for s in range(self.streams)]
        return types.ReadSession(streams=[types.ReadStream(name=s) for s in streams])

    def read_rows(
        self, request: types.ReadRowsRequest, context
    ) -> Iterator[types.ReadRowsResponse]:
        """The rows of one stream from an offset on; streams divide a table evenly."""
        _, session_number, _, stream = request.read_stream.split("/")
        session = self.sessions[int(session_number)]
        _, project, _, dataset, _, table = session.table.split("/")
        rows = self.tables[f"{project}.{dataset}.{table}"]
        rows = rows.select(list(session.read_options.selected_fields) or rows.column_names)
        size = -(-len(rows) // self.streams)
        rows = rows.slice(int(stream) * size, size)
        sent = request.offset
        for batch in rows.slice(sent).to_batches(max_chunksize=self.batch_rows):
            if self.break_once_at is not None and sent >= self.break_once_at:
                self.break_once_at = None
                context.abort(grpc.StatusCode.UNAVAILABLE, "the connection broke")
            yield _response(batch)
            sent += batch.num_rows


def _response(batch: pa.RecordBatch) -> types.ReadRowsResponse:
    """Schema and rows, compressed as Beam asks for it."""
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    with pa.ipc.new_stream(sink, batch.schema, options=options) as writer:
        writer.write_batch(batch)
    messages = pa.ipc.MessageReader.open_stream(sink.getvalue())
    schema, content = (messages.read_next_message().serialize().to_pybytes() for _ in range(2))
    return types.ReadRowsResponse(
        row_count=batch.num_rows,
        arrow_schema=types.ArrowSchema(serialized_schema=schema),
        arrow_record_batch=types.ArrowRecordBatch(serialized_record_batch=content),
    )


@contextlib.contextmanager
def running(service: FakeBigQuery) -> Iterator[FakeBigQuery]:
    """Serves on this machine, and has Beam's and Google's clients call it."""
    with _grpc(service) as grpc_address, _rest(service) as url, pytest.MonkeyPatch.context() as p:

        def read_client() -> BigQueryReadClient:
            channel = grpc.insecure_channel(grpc_address)
            return BigQueryReadClient(transport=BigQueryReadGrpcTransport(channel=channel))

        credentials = auth._ApitoolsCredentialsAdapter(AnonymousCredentials())
        p.setattr(bigquery.bq_storage, "BigQueryReadClient", read_client)
        p.setattr(BigqueryV2, "BASE_URL", url)
        p.setattr(auth, "get_service_credentials", lambda options: credentials)
        yield service


@contextlib.contextmanager
def _grpc(service: FakeBigQuery) -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(4))
    handlers = {
        "CreateReadSession": grpc.unary_unary_rpc_method_handler(
            service.create_read_session,
            types.CreateReadSessionRequest.deserialize,
            types.ReadSession.serialize,
        ),
        "ReadRows": grpc.unary_stream_rpc_method_handler(
            service.read_rows,
            types.ReadRowsRequest.deserialize,
            types.ReadRowsResponse.serialize,
        ),
    }
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(_SERVICE, handlers),),
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None)


@contextlib.contextmanager
def _rest(service: FakeBigQuery) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = _REST.match(self.path)
            table = service.describe(*found.groups()) if found else None
            error = {"error": {"code": 404, "message": f"Not found: {self.path}"}}
            body = json.dumps(table or error).encode()
            self.send_response(200 if table else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/bigquery/v2/"
    server.shutdown()
    server.server_close()
