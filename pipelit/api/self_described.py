"""Schemas that write their own place in the OpenAPI document, where marshmallow has no way to say it.

A node is `oneOf` as many objects as there are node types, told apart by `component_type`. What is loaded and dumped is
one flat schema, because the node type itself checks the configuration; what is published is the exact alternatives.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from apispec.ext.marshmallow.openapi import OpenAPIConverter
from marshmallow import Schema

from pipelit.nodes.describe import add_stored_fields

# OpenAPI's own vocabulary: nested JSON, which has no narrower type than this.
JsonSchema = dict[str, Any]
Reference = Callable[[type[Schema]], JsonSchema]
"""Puts a schema among the document's components and gives a reference to it."""


class SelfDescribed:
    """A schema beside whose fields there is a better description."""

    @abstractmethod
    def json_schema(self, reference: Reference) -> JsonSchema:
        """The description."""


class OneOf(SelfDescribed):
    """One of several schemas, told apart by the value of the field `discriminator`."""

    discriminator: ClassVar[str]

    @abstractmethod
    def variants(self) -> Mapping[str, type[Schema]]:
        """The schemas by the value that tells them apart."""

    def json_schema(self, reference: Reference) -> JsonSchema:
        references = {value: reference(variant) for value, variant in self.variants().items()}
        return {
            "oneOf": list(references.values()),
            "discriminator": {
                "propertyName": self.discriminator,
                "mapping": {value: found["$ref"] for value, found in references.items()},
            },
        }


class Converter(OpenAPIConverter):
    """apispec's converter, which lets schemas speak for themselves."""

    def schema2jsonschema(self, schema: Any) -> JsonSchema:
        if isinstance(schema, SelfDescribed):
            return schema.json_schema(self.resolve_nested_schema)
        describe: Callable[[Any], JsonSchema] = super().schema2jsonschema
        return describe(schema)


class Plugin(MarshmallowPlugin):
    """apispec's plugin with that converter, which also knows the fields of stored configurations."""

    Converter = Converter

    def init_spec(self, spec: APISpec) -> None:
        super().init_spec(spec)
        add_stored_fields(self.converter)
