"""JSON Schema's keywords, sorted by what becomes of them."""

# Say where something is, not what an instance must be.
NAMING = {"$anchor", "$id", "$schema", "id"}
DEFINITIONS = {"$defs", "definitions"}

# Restrict instances and are not enforced. The last three are draft 3's.
REFUSED = {
    *("$dynamicRef", "$recursiveRef", "contains", "dependencies", "dependentRequired", "dependentSchemas"),
    *("else", "if", "maxContains", "minContains", "not", "propertyNames", "then", "unevaluatedItems"),
    *("unevaluatedProperties", "uniqueItems", "disallow", "divisibleBy", "extends"),
}

# A value with which a refused keyword restricts nothing.
HARMLESS: dict[str, tuple[object, ...]] = {
    "dependencies": ({},),
    "dependentRequired": ({},),
    "dependentSchemas": ({},),
    "propertyNames": (True, {}),
    "unevaluatedItems": (True, {}),
    "unevaluatedProperties": (True, {}),
    "uniqueItems": (False,),
    "not": (False,),
}

# These mean something only beside another keyword.
BESIDE = {"then": "if", "else": "if", "minContains": "contains", "maxContains": "contains"}

TYPES = {"array", "boolean", "integer", "null", "number", "object", "string"}
