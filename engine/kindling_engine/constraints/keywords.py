"""JSON Schema's keywords, sorted by what becomes of them."""

# Say where something is, not what an instance must be.
NAMING = {"$anchor", "$id", "$schema", "id"}
DEFINITIONS = {"$defs", "definitions"}

# Restrict instances and are not enforced. The last three are draft 3's.
REFUSED = {
    *("$dynamicRef", "$recursiveRef", "contains", "maxContains", "minContains", "propertyNames"),
    *("unevaluatedItems", "unevaluatedProperties", "uniqueItems", "disallow", "divisibleBy", "extends"),
}

# A value with which a refused keyword restricts nothing.
HARMLESS: dict[str, tuple[object, ...]] = {
    "propertyNames": (True, {}, {"type": "string"}),  # all names are strings
    "unevaluatedItems": (True, {}),
    "unevaluatedProperties": (True, {}),
    "uniqueItems": (False,),
}

# These mean something only beside another keyword.
BESIDE = {"minContains": "contains", "maxContains": "contains"}

TYPES = {"array", "boolean", "integer", "null", "number", "object", "string"}
