"""The AsyncAPI document names the topics the code uses, their messages, and the seals the code looks for."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from cloud_bridge import topics
from cloud_bridge.topics import Box, parse_up
from gateway import signed
from gateway.events import Lane
from scripts.contract import FOLDER, MESSAGES

CONTRACT = FOLDER.parent
LEAF = re.compile(r"^    sgw/1/TENANT/SHARD/STORE/GATEWAY/(up|dn)/(\w+) ", re.MULTILINE)


@pytest.fixture(scope="module")
def document() -> Any:
    return yaml.safe_load((CONTRACT / "asyncapi.yaml").read_text(encoding="utf-8"))


def resolved(document: Any, node: Any) -> Any:
    """What a reference inside the document points at."""
    while isinstance(node, dict) and str(node.get("$ref", "")).startswith("#/"):
        found = document
        for name in node["$ref"][2:].split("/"):
            found = found[name]
        node = found
    return node


def test_every_topic_of_the_code_is_a_channel_and_no_other(document: Any) -> None:
    said = {(way, leaf) for way, leaf in LEAF.findall(topics.__doc__ or "")}
    assert ("up", "LANE") in said and ("dn", "ask") in said
    box = Box("{tenant}", "{store}", "{gateway}", "{shard}")
    wanted = {box.up("{lane}" if leaf == "LANE" else leaf) if way == "up" else box.down(leaf) for way, leaf in said}
    assert {channel["address"] for channel in document["channels"].values()} == wanted


def test_the_parameters_of_an_address_are_described(document: Any) -> None:
    for channel in document["channels"].values():
        assert set(re.findall(r"\{(\w+)\}", channel["address"])) == set(channel["parameters"])
        for parameter in channel["parameters"].values():
            assert resolved(document, parameter)["description"]


def test_an_address_with_names_in_it_is_a_topic_of_the_code(document: Any) -> None:
    for channel in document["channels"].values():
        topic = channel["address"]
        for name in channel["parameters"]:
            topic = topic.replace(f"{{{name}}}", "0")
        if "/up/" in topic:
            box, leaf = parse_up(topic)
            assert box.up(leaf) == topic


def test_lanes_are_those_of_the_code(document: Any) -> None:
    assert document["channels"]["rows"]["parameters"]["lane"]["enum"] == [str(int(lane)) for lane in Lane]


def test_every_message_has_a_schema_and_every_schema_a_message(document: Any) -> None:
    used = set()
    for message in document["components"]["messages"].values():
        path = CONTRACT / message["payload"]["$ref"]
        assert path.is_file()
        used.add(path.stem)
    assert used == set(MESSAGES) - {"document"}  # which travels in pieces
    carried = {id(resolved(document, one)) for channel in document["channels"].values() for one in channel["messages"].values()}
    assert carried == {id(message) for message in document["components"]["messages"].values()}


def test_seals_are_those_of_the_code(document: Any) -> None:
    tags = {value.decode() for name, value in vars(signed).items() if name.endswith("_TAG")}
    said = {message["x-seal"] for message in document["components"]["messages"].values() if "x-seal" in message}
    assert said == tags - {signed.DOCUMENT_TAG.decode()}
    assert signed.DOCUMENT_TAG.decode() in document["components"]["messages"]["chunk"]["description"]
    assert signed.BATCH_TAG.decode() in document["components"]["messages"]["batch"]["description"]


def test_operations_use_channels_that_exist(document: Any) -> None:
    used = set()
    for operation in document["operations"].values():
        assert operation["action"] in ("send", "receive")
        for reference in (operation["channel"], operation.get("reply", {}).get("channel")):
            if reference is not None:
                used.add(id(resolved(document, reference)))
    assert used == {id(channel) for channel in document["channels"].values()}


def test_the_files_of_the_contract_are_all_explained() -> None:
    text = Path(CONTRACT / "README.md").read_text(encoding="utf-8")
    for path in CONTRACT.rglob("*.json"):
        assert f"{path.relative_to(CONTRACT).parts[0]}/" in text
