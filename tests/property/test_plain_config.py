"""Hold the fast decoder of configs against the exact one: where it answers, the answer is the same.

The long run is `tools/fuzz.py --targets plain --executions 1000000`.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attacking import TOOLS
from eventstore import Image, InvalidImageError, image, image_parts, plain_config

sys.path.append(str(TOOLS))
import fuzz_plain

REAL = fuzz_plain.real_configs()
CONFIGS = fuzz_plain.configs()
MUTANTS = 1_500


def mutants(number: int = MUTANTS) -> Iterator[bytes]:
    """Iterate over changed configs, always the same."""
    chance = random.Random(4)
    for _ in range(number):
        yield fuzz_plain.mutated(chance.choice(CONFIGS), chance)


def test_real_and_recorded_configs_are_the_same_by_both_decoders() -> None:
    """As they are, not changed."""
    assert [raw for raw in CONFIGS if fuzz_plain.difference(raw)[1] is not None] == []


def test_the_fast_decoder_takes_what_real_databases_hold() -> None:
    """It cannot be off in silence: of the configs that Docker takes, it decodes nearly all."""
    accepted = [raw for raw in REAL if is_accepted(raw)]
    plain = [raw for raw in accepted if plain_config.decode(raw) is not None]
    assert len(accepted) >= 200
    assert len(plain) >= 0.97 * len(accepted)


def is_accepted(raw: bytes) -> bool:
    """Tell whether Docker's restore takes a config."""
    try:
        Image.from_stored(raw)
    except InvalidImageError:
        return False
    return True


def test_changed_configs_are_the_same_by_both_decoders() -> None:
    """Equal keys, other spellings, wrong types, odd times; many of them are still decoded fast."""
    answers = [fuzz_plain.difference(raw) for raw in mutants()]
    assert [what for _, what in answers if what is not None] == []
    assert sum(is_plain for is_plain, _ in answers) > MUTANTS // 8


@given(st.sampled_from(CONFIGS), st.randoms(use_true_random=False))
def test_any_change_of_a_config_is_the_same_by_both_decoders(
    raw: bytes, chance: random.Random
) -> None:
    """As above, with what hypothesis chooses, so that a difference shrinks."""
    changed = fuzz_plain.mutated(raw, chance)
    assert fuzz_plain.difference(changed)[1] is None, changed


@given(st.sampled_from(CONFIGS), st.data())
def test_any_change_of_bytes_is_the_same_by_both_decoders(raw: bytes, data: st.DataObject) -> None:
    """A few bytes anywhere are others, or are gone, or are new."""
    start = data.draw(st.integers(0, len(raw)))
    end = data.draw(st.integers(start, min(len(raw), start + 8)))
    changed = raw[:start] + data.draw(st.binary(max_size=4)) + raw[end:]
    assert fuzz_plain.difference(changed)[1] is None, changed


WEAKENINGS = [
    ("plain_config", "if braces != objects and", "if False and"),
    ("plain_config", "raw.count(b'\"created\"') != len(times) or ", ""),
    ("plain_config", "_find_escaped_letter(raw) is not None", "False"),
    ("plain_config", "    forbid_unknown_fields=True,", ""),
    ("plain_config", "len(_decode_times(listed)) == len(texts)", "bool(_decode_times(listed))"),
    ("plain_config", "not listed.translate(None, _OF_TIMES_IN_UTC) and ", ""),
    ("plain_config", ' and listed.count(b"Z") == len(texts)', ""),
    ("plain_config", "all(parse_instant(text) is not None for text in texts)", "True"),
    ("plain_config", "        _settle(run)\n", "        pass\n"),
    ("image_parts", "Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]", "int"),
    ("image_parts", "forbid_unknown_fields=True, rename=_CONTAINER", "rename=_CONTAINER"),
    ("image_parts", "forbid_unknown_fields=True, rename=_HEALTH", "rename=_HEALTH"),
    ("image_parts", 'forbid_unknown_fields=True, rename={"created', 'rename={"created'),
    (
        "image_parts",
        "class RootFS(Struct, frozen=True, gc=False, forbid_unknown_fields=True)",
        "class RootFS(Struct, frozen=True)",
    ),
]


@pytest.mark.parametrize("weakening", WEAKENINGS, ids=range(len(WEAKENINGS)))
def test_without_any_of_its_checks_the_fast_decoder_is_found_out(
    weakening: tuple[str, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The comparison can fail: with one check less, some small config is read differently."""
    edited, old, new = weakening
    for module in (image_parts, plain_config):
        weakened = ModuleType(module.__name__)
        assert module.__file__ is not None
        source = Path(module.__file__).read_text("utf-8")
        if module.__name__ == f"eventstore.{edited}":
            assert source.count(old) == 1
            source = source.replace(old, new)
        monkeypatch.setitem(sys.modules, module.__name__, weakened)
        monkeypatch.setattr(f"eventstore.{module.__name__.rpartition('.')[2]}", weakened)
        exec(compile(source, module.__file__, "exec"), vars(weakened))
    monkeypatch.setattr(image, "plain_config", weakened)
    monkeypatch.setattr(fuzz_plain, "plain_config", weakened)
    assert any(found_out(raw) for raw in fuzz_plain.TRICKY)


def found_out(raw: bytes) -> bool:
    """Tell whether a config is read differently, or not at all for a foreign error."""
    what = fuzz_plain.difference(raw)[1]
    return what is not None and "not equal" not in what
