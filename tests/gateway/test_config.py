"""The configuration file: typed, documented, and unforgiving with unknown keys.

`docs/configuration.md` is written from the types: `UPDATE_DOCS=1 pytest tests/gateway/test_config.py`.
"""

import os
import re
import tomllib
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_bridge.hq.options import HqOptions
from gateway.config import SECTION_TYPES, load, parse
from gateway.errors import ConfigError

DOC: Final = Path(__file__).parents[2] / "docs" / "configuration.md"
MANY: Final = ("ble.sensors", "ble.tags", "station", "scanner", "locker")
HEAD: Final = """# Configuration

The box reads one file, `gateway.toml`. Every key is below; a key that is not is refused, and the nearest known one is named.
Relative paths of `[paths]` and of a locker's `port` start at the file's own folder. An empty default is written `""`.

Written from `gateway/config.py` by its test; change the descriptions there.
"""
HQ_TAIL: Final = """## Headquarters

Headquarters reads a file of its own, `store-gateway run hq --config hq.toml`. Port 0 takes a free one, the same again at the next start.

| key | default | meaning |
|---|---|---|
| `data_dir` | needed | Its folder: keys, ports, backups, and the database unless another one is named. |
| `database` | `""` | `postgresql://USER@HOST:PORT/NAME`, PostgreSQL 15 or newer. Empty: `hq.db` in the folder, SQLite. |
| `keep_backups` | `7` | How many of `hq backup`; shops keep their money rows until the lowest of these has them. |
| `longest_offline_days` | `90` | Boxes are back by then: so long headquarters keeps what they may still ask about. 0: for ever. |
| `deeds_days` | `400` | How long the office's journal says who did what; 0: for ever. |
| `http_host`, `http_port` | `"127.0.0.1"`, `0` | Where pages and API listen. |
| `broker_host`, `broker_port` | `"127.0.0.1"`, `0` | Where the broker inside headquarters listens. |
| `external` | none | A broker that runs elsewhere: `host`, `port`, `server_name`, `tls`, `others`. |
| `names` | `[]` | Other host names the pages may be asked for by, and that the certificates bear. |
| `enrol_host`, `enrol_port` | `"127.0.0.1"`, `0` | Where the HTTPS door for new boxes listens. |
| `enrol_name` | `""` | The host that labels tell boxes; empty: the first of `names`, else `enrol_host`. |
| `public_url` | `""` | Where shoppers' phones reach `/v/` and `/g/`, such as `"https://hq.example"`; empty: the pages' own address. |
| `relay_ports` | `{}` | Of the shops' lines in a rehearsal, by shop. |
| `camera_control` | none | Socket of a virtual camera that can be shown codes. |
"""


# ---------------------------------------------------------------- the page


def render() -> str:
    """The page, from the types and their descriptions."""
    return "\n".join([HEAD, *(_section(name, kind) for name, kind in SECTION_TYPES.items()), HQ_TAIL])


def _section(name: str, kind: type[msgspec.Struct]) -> str:
    title = f"[[{name}]]" if name in MANY else f"[{name}]"
    repeated = " May be repeated." if name in MANY else ""
    info = msgspec.inspect.type_info(kind)
    assert isinstance(info, msgspec.inspect.StructType)
    lines = [f"## `{title}`", "", f"{kind.__doc__}{repeated}", "", "| key | kind | default | meaning |", "|---|---|---|---|"]
    lines += [_line(field) for field in info.fields if f"{name}.{field.encode_name}" not in SECTION_TYPES]
    return "\n".join([*lines, ""])


def _line(field: msgspec.inspect.Field) -> str:
    kind: msgspec.inspect.Type = field.type
    meaning = ""
    if isinstance(kind, msgspec.inspect.Metadata):
        meaning = (kind.extra_json_schema or {}).get("description", "")
        kind = kind.type
    default = "needed" if field.required else f"`{_default(field)}`"
    return f"| `{field.encode_name}` | {_kind(kind)} | {default} | {meaning} |"


def _default(field: msgspec.inspect.Field) -> str:
    value: Any = [] if field.default is msgspec.NODEFAULT else field.default
    return msgspec.json.encode(value).decode()


def _kind(kind: msgspec.inspect.Type) -> str:
    if isinstance(kind, msgspec.inspect.ListType):
        return "list of texts"
    if isinstance(kind, msgspec.inspect.StrType):
        return "name" if kind.pattern and "A-Z" in kind.pattern else "text"
    if isinstance(kind, msgspec.inspect.BoolType):
        return "true or false"
    word = "whole number" if isinstance(kind, msgspec.inspect.IntType) else "number"
    assert isinstance(kind, msgspec.inspect.IntType | msgspec.inspect.FloatType)
    bounds = [f"from {kind.ge}"] if kind.ge is not None else [f"above {kind.gt:g}"] if kind.gt is not None else []
    bounds += [f"to {kind.le}"] if kind.le is not None else []
    return " ".join([word, *bounds])


def test_the_page_says_what_the_code_does() -> None:
    if os.environ.get("UPDATE_DOCS") == "1":
        DOC.write_text(render(), encoding="utf-8")
    assert DOC.read_text(encoding="utf-8") == render(), "run UPDATE_DOCS=1 pytest tests/gateway/test_config.py"


def test_every_key_says_what_it_is_for() -> None:
    for line in render().splitlines():
        if line.startswith("| `"):
            assert not line.endswith("|  |"), line


# ---------------------------------------------------------------- the file


def everything(shop_text: str) -> str:
    ble = '[ble]\n[[ble.sensors]]\nname = "hci0"\nzone = "door"\n[[ble.tags]]\nsubject = "trolley"\n'
    return f"{shop_text}[core]\nport = 8080\n[till]\nhold_s = 60\n[members]\ncache_h = 12\n{ble}"


def with_key(shop_text: str, section: str, line: str) -> str:
    """The configuration with one more line in the first table of that name."""
    title = f"[[{section}]]" if section in MANY else f"[{section}]"
    text = everything(shop_text)
    assert title in text
    return text.replace(f"{title}\n", f"{title}\n{line}\n", 1)


def test_the_whole_file_is_read(shop_text: str) -> None:
    config = parse(everything(shop_text))
    assert config.store.number == 7
    assert config.core.port == 8080
    assert config.ble.sensors[0].zone == "door"
    assert [station.name for station in config.stations] == ["counter", "door"]
    assert config.locker("wall").compartments == 4
    assert config.scanner("door").source == "virtual"


@pytest.mark.parametrize("section", SECTION_TYPES)
def test_an_unknown_key_names_the_nearest_known_one(shop_text: str, section: str) -> None:
    for field in msgspec.structs.fields(SECTION_TYPES[section]):
        slip = field.encode_name + "x"
        with pytest.raises(ConfigError) as refused:
            parse(with_key(shop_text, section, f'{slip} = "1"'))
        assert f"`{slip}`" in str(refused.value)
        assert f"[{section}]" in str(refused.value)
        assert f"Did you mean `{field.encode_name}`?" in refused.value.hint


def test_an_unknown_table_names_the_nearest_known_one(shop_text: str) -> None:
    for text, nearest in (("[[stations]]", "station"), ("[stroe]", "store"), ("lockers = 3", "locker"), ("[ble.sensor]", "sensors")):
        with pytest.raises(ConfigError) as refused:
            parse(f"{text}\n{shop_text}")
        assert f"`{nearest}`" in refused.value.hint


@given(st.text(st.sampled_from("abcdefghijklmnopqrstuvwxyz_"), min_size=1, max_size=12))
def test_no_unknown_key_slips_through(key: str) -> None:
    text = '[store]\ntenant="a"\nstore="b"\nnumber=1\ngateway="c"\n[paths]\nstate="s"\nrun="r"\n[bridge]\nhost="h"\n'
    known = {field.encode_name for field in msgspec.structs.fields(SECTION_TYPES["bridge"])}
    if key not in known:
        with pytest.raises(ConfigError, match="nobody knows"):
            parse(f'{text}{key} = "1"\n')


@pytest.mark.parametrize(
    ("section", "line"),
    [
        ("core", 'port = "8080"'),
        ("core", "port = 70000"),
        ("core", "host = 1"),
        ("ble", "exit_after_s = 0"),
        ("ble", "exit_after_s = nan"),
        ("ble", 'radio = ["bluez"]'),
        ("bridge", "batch_rows = 0"),
        ("bridge", "batch_rows = 2001"),
        ("bridge", "answer_s = -1"),
        ("scanner", "frames_per_s = 61"),
        ("ble.tags", 'kind = "stranger"'),
        ("station", 'lockers = "wall"'),
        ("locker", 'board = "cu17"'),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused(shop_text: str, section: str, line: str) -> None:
    text = with_key(shop_text, section, line)
    lines, seen = [], set[str]()
    for each in text.splitlines():  # the planted line stands first in its table; a line of the same key after it goes
        key = each.partition(" =")[0]
        seen = set() if each.startswith("[") else seen
        if key not in seen:
            lines.append(each)
        seen.add(key)
    with pytest.raises(ConfigError) as refused:
        parse("\n".join(lines))
    assert "docs/configuration.md" in refused.value.hint


@pytest.mark.parametrize("name", ["", "a/b", "a b", "名", "x" * 41, "box\n"])
def test_a_name_is_fit_for_a_topic(shop_text: str, name: str) -> None:
    written = msgspec.json.encode(name).decode()
    with pytest.raises(ConfigError):
        parse(shop_text.replace('gateway = "box-7"', f"gateway = {written}"))


@pytest.mark.parametrize("missing", ['tenant = "chain"', "number = 7", 'host = "localhost"', "[paths]"])
def test_what_is_needed_is_missed(shop_text: str, missing: str) -> None:
    with pytest.raises(ConfigError):
        parse(shop_text.replace(missing, ""))


def test_what_is_no_toml_is_refused_with_its_line() -> None:
    with pytest.raises(ConfigError, match="line 2"):
        parse("[store]\nnumber = = 1\n")


def test_a_file_that_cannot_be_read_is_a_matter_for_the_installer(tmp_path: Path) -> None:
    latin = tmp_path / "latin.toml"
    latin.write_bytes('name_zh = "é"'.encode("latin-1"))
    for path in (tmp_path / "absent.toml", tmp_path, latin):
        with pytest.raises(ConfigError) as refused:
            load(path)
        assert refused.value.hint


def test_relative_paths_start_at_the_files_own_folder(tmp_path: Path, shop_text: str) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text(shop_text.replace(str(tmp_path), "."), encoding="utf-8")
    config = load(path)
    assert config.ledger_path == tmp_path / "state" / "ledger.db"
    assert config.link_path == tmp_path / "link.sock"
    assert config.locker("wall").port == str(tmp_path / "wall.tty")


def test_an_instance_nobody_configured_is_refused_with_the_known_ones(shop_text: str) -> None:
    with pytest.raises(ConfigError, match="Known: wall"):
        parse(shop_text).locker("wal")
    with pytest.raises(ConfigError, match="Known: counter, door"):
        parse(shop_text).scanner("till")


def test_a_unit_finds_its_station(shop_text: str) -> None:
    config = parse(shop_text)
    found = {unit: config.station_of(unit) for unit in ("scanner@counter", "scanner@door", "locker@wall", "scanner@wall", "bridge")}
    assert {unit: station.name if station else None for unit, station in found.items()} == {
        "scanner@counter": "counter", "scanner@door": "door", "locker@wall": "counter", "scanner@wall": None, "bridge": None,
    }  # fmt: skip


def test_every_table_of_the_page_is_toml(shop_text: str) -> None:
    assert set(tomllib.loads(everything(shop_text))) == {name.partition(".")[0] for name in SECTION_TYPES}


def test_every_option_of_headquarters_is_explained_and_no_other() -> None:
    rows = [line.split(" | ")[0] for line in HQ_TAIL.splitlines() if line.startswith("| `")]
    assert sorted(re.findall(r"`(\w+)`", " ".join(rows))) == sorted(HqOptions.__struct_fields__)
