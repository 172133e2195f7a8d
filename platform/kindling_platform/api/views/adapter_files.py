"""The bytes of an adapter: file by file, part by part, or as one zip."""

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from kindling_platform.adapters.arrived import arrived_get
from kindling_platform.adapters.selectors import adapter_get
from kindling_platform.adapters.services import adapter_file_put
from kindling_platform.adapters.zip_upload import adapter_zip_put
from kindling_platform.api.caller import caller_of
from kindling_platform.api.rows import adapter_row, file_row
from kindling_platform.api.shapes import AdapterShape, ArrivedShape, FileShape, FilesShape
from kindling_platform.api.uploads import blocks_of, part_of

RAW = {"application/octet-stream": OpenApiTypes.BINARY}
RANGE = OpenApiParameter(
    "Content-Range",
    str,
    OpenApiParameter.HEADER,
    description="`bytes first-last/total` for a part; parts come in order, and an interrupted upload goes on behind "
    "`received_bytes`, once the sha256 of what is there is that of the file's own beginning.",
)


class AdapterFiles(APIView):
    actions = {"GET": "adapters.read"}

    @extend_schema(
        operation_id="adapter_files_list", summary="How much of each file is there", responses=FilesShape
    )
    def get(self, request: Request, adapter_id: str) -> Response:
        adapter = adapter_get(org=caller_of(request).org, adapter_id=adapter_id)
        rows = [file_row(file) for file in sorted(adapter.files.all(), key=lambda file: file.name)]
        return Response(FilesShape({"data": rows}).data)


class AdapterFileView(APIView):
    actions = {"GET": "adapters.write", "PUT": "adapters.write"}

    @extend_schema(
        operation_id="adapter_files_get",
        summary="What is there of a file of an open upload, and its sha256",
        description="Ask before an interrupted upload goes on: another training of the same adapter has files of the "
        "same names and sizes. If the digest is not that of the file's own beginning, create the adapter anew under "
        "its name; the unfinished one makes way.",
        responses=ArrivedShape,
    )
    def get(self, request: Request, adapter_id: str, name: str) -> Response:
        arrived = arrived_get(org=caller_of(request).org, adapter_id=adapter_id, name=name)
        return Response(ArrivedShape(arrived).data)

    @extend_schema(
        operation_id="adapter_files_put",
        summary="Send a file or a part of it",
        parameters=[RANGE],
        request=RAW,
        responses=FileShape,
    )
    def put(self, request: Request, adapter_id: str, name: str) -> Response:
        caller = caller_of(request)
        part = part_of(request)
        file = adapter_file_put(
            org=caller.org,
            adapter_id=adapter_id,
            name=name,
            blocks=blocks_of(request),
            actor=caller.actor,
            offset=part.offset,
            total_bytes=part.total,
            part_bytes=part.size,
        )
        return Response(FileShape(file_row(file)).data)


class AdapterZip(APIView):
    actions = {"PUT": "adapters.write"}

    @extend_schema(
        operation_id="adapters_zip_put",
        summary="Send both files in one zip",
        request={"application/zip": OpenApiTypes.BINARY},
        responses=AdapterShape,
    )
    def put(self, request: Request, adapter_id: str) -> Response:
        caller = caller_of(request)
        adapter = adapter_zip_put(
            org=caller.org, adapter_id=adapter_id, blocks=blocks_of(request), actor=caller.actor
        )
        return Response(AdapterShape(adapter_row(adapter)).data)
