"""Models by name, and by what the environment has."""

import pytest

from offbook import InvalidOption
from offbook.agent.models import (
    AnthropicMessages,
    Model,
    OpenAIChat,
    OpenAIResponses,
    model,
    model_from_environment,
)

VARIABLES = ("OFFBOOK_MODEL", "OPENAI_API_KEY", "OPENAI_BASE_URL", "ANTHROPIC_API_KEY")


@pytest.mark.parametrize(
    ("text", "kind", "name", "provider"),
    [
        ("openai:gpt-5", OpenAIResponses, "gpt-5", "openai"),
        ("openai-chat:org/own:7b", OpenAIChat, "org/own:7b", "openai"),
        ("anthropic:claude", AnthropicMessages, "claude", "anthropic"),
    ],
)
def test_a_model_by_its_name(text: str, kind: type[Model], name: str, provider: str) -> None:
    found = model(text)
    assert type(found) is kind
    assert isinstance(found, Model)
    assert (found.name, found.provider) == (name, provider)


@pytest.mark.parametrize("text", ["", "gpt-5", "openai:", "other:x", ":x"])
def test_a_name_that_names_no_model_is_refused(text: str) -> None:
    with pytest.raises(InvalidOption, match="anthropic:NAME"):
        model(text)


@pytest.mark.parametrize(
    ("variables", "shown"),
    [
        ({}, "None"),
        ({"OPENAI_API_KEY": "k", "ANTHROPIC_API_KEY": "k"}, "OpenAIResponses('gpt-5')"),
        ({"ANTHROPIC_API_KEY": "k"}, "AnthropicMessages('claude-sonnet-4-6')"),
        ({"OPENAI_BASE_URL": "u", "ANTHROPIC_API_KEY": "k"}, "OpenAIChat('gpt-5')"),
        ({"OFFBOOK_MODEL": "openai-chat:m", "ANTHROPIC_API_KEY": "k"}, "OpenAIChat('m')"),
        ({"OPENAI_API_KEY": ""}, "None"),
    ],
)
def test_the_environment_chooses(
    variables: dict[str, str], shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert repr(model_from_environment()) == shown
