"""What offbook is, in pydantic-ai's words for durable engines."""

from pydantic_ai.durable_exec import JSON_CODEC, DurabilityEngineSpec

KEY = "offbook"
"""Where a tool's metadata hold the options of its step."""

SPEC = DurabilityEngineSpec(
    engine_name="offbook",
    durable_unit_noun="step",
    durable_container_noun="workflow",
    codec=JSON_CODEC,
    # A step may run in another process, so nothing that the body holds open can be used in it.
    toolset_lifecycles={
        "function": "enter-outside-durable",
        "mcp": "enter-outside-durable",
        "dynamic": "enter-never",
    },
    unsupported_runtime_toolset_kinds=frozenset({"function", "mcp", "dynamic"}),
    tool_config_key=KEY,
)
