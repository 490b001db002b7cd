"""How warm it feels in the wind."""

from collections.abc import Mapping
from typing import ClassVar

from marshmallow import fields, validate

from pipelit.errors import ConfigError
from pipelit.nodes.base import StepConfig, StepContext, StepNode
from pipelit.nodes.outcome import Completed
from pipelit.nodes.ports import Category, DataType, Json, Port
from pipelit.nodes.settings import config, setting


@config
class WindChillConfig(StepConfig):
    """The weather."""

    temperature: float = setting(
        fields.Float(validate=validate.Range(-100, 60)), title="Temperature", help="In degrees Celsius."
    )
    wind: float = setting(fields.Float(validate=validate.Range(0, 400)), title="Wind", help="In km/h.", default=0.0)
    unit: str = setting(
        fields.String(validate=validate.OneOf(["celsius", "fahrenheit"])),
        title="Unit",
        default="celsius",
        is_literal=True,
    )


class WindChill(StepNode[WindChillConfig]):
    """Computes how warm it feels, from the temperature and the wind.

    The formula is the one of the weather services since 2001. It is made for 10 degrees or less, and fails above.
    """

    type = "weather_wind_chill"
    title = "Wind chill"
    category = Category.TOOL
    icon = "wind"
    inputs = (Port("input", DataType.ANY, "Decides when the node runs."),)
    outputs = (Port("output", DataType.NUMBER, "How warm it feels."),)
    example: ClassVar[Mapping[str, Json]] = {"temperature": -5, "wind": "{{ trigger.payload.total }}"}
    version = 2
    is_pure = True
    is_tool = True
    Config = WindChillConfig

    def upgrade(self, values: dict[str, Json], from_version: int) -> dict[str, Json]:
        """Version 1 called the wind `speed` and measured it in m/s."""
        if from_version >= 2 or "speed" not in values:
            return values
        speed = values.pop("speed")
        wind = speed * 3.6 if isinstance(speed, int | float) else f"{{{{ ({str(speed).strip('{} ')}) * 3.6 }}}}"
        return {**values, "wind": wind}

    def run(self, config: WindChillConfig, context: StepContext) -> Completed:
        if config.temperature > 10:
            raise ConfigError(f"temperature: the formula is made for at most 10 degrees, not {config.temperature:g}.")
        strength = config.wind**0.16
        celsius = 13.12 + 0.6215 * config.temperature + (0.3965 * config.temperature - 11.37) * strength
        if config.wind < 4.8:
            celsius = config.temperature
        felt = celsius if config.unit == "celsius" else celsius * 9 / 5 + 32
        return Completed({"output": round(felt, 1)})
