"""What the operator says of a model."""

from rest_framework import serializers as s

from kindling_platform.api.strict import StrictShape


class ModelChangeShape(StrictShape):
    deployable = s.BooleanField(help_text="Whether organisations may deploy it for themselves.")


class OperatedModelShape(s.Serializer[object]):
    id = s.CharField()
    ref = s.CharField()
    deployable = s.BooleanField()
