"""The base of all models: names in camelCase, as in the custom resource; fields that are not known are ignored."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from joblease.limits import MAX_NAME, NAME_PATTERN

Name = Annotated[str, Field(pattern=NAME_PATTERN, max_length=MAX_NAME)]
"""Of a handler, a queue or a group."""


class Model(BaseModel):
    """A newer writer must not stop an older reader: what it does not know is ignored."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore")
