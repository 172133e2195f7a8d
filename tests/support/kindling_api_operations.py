"""The control API's operations as schemathesis knows them, from the schema that it serves."""

from functools import cache

import schemathesis
from drf_spectacular.generators import SchemaGenerator


@cache
def api_operations() -> dict[str, schemathesis.APIOperation]:
    """By method and path; made once, as the schema takes a second."""
    schema = schemathesis.openapi.from_dict(SchemaGenerator().get_schema(request=None, public=True))
    found = [one.ok() for one in schema.get_all_operations()]
    return {operation.label: operation for operation in found}
