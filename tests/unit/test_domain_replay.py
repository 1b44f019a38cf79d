"""A rejected event mended: what it says then, and as what it is counted."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from domain.errors import Invalid
from domain.events import exact_decoder
from domain.replay import Fix, check_age, mended_event, replay_id
from schemas.event_records import EventPosition
from schemas.replays import ReplayRequest

AT = EventPosition(topic_id="t1", partition=2, offset=47, index=3)


def mended(original: bytes, *, patch: str | None = None, event: str | None = None) -> str:
    decode = msgspec.json.decode
    fix = Fix(patch=None if patch is None else decode(patch), event=None if event is None else decode(event))
    return mended_event(original, AT, fix).decode()


def test_a_patch_merges_replaces_and_removes() -> None:
    original = b'{"id":"a","type":"call","properties":{"n":1,"deep":{"x":1,"y":2},"gone":true}}'
    patch = '{"customer":"acme","type":null,"properties":{"deep":{"y":null,"z":[1]},"gone":null}}'
    assert mended(original, patch=patch) == ('{"id":"a","properties":{"n":1,"deep":{"x":1,"z":[1]}},"customer":"acme"}')


def test_numbers_stay_as_they_were_sent() -> None:
    original = b'{"id":"a","properties":{"n":0.1000000000000000000000001,"m":1E+30,"k":12345678901234567890123}}'
    assert mended(original) == original.decode()
    decoder = exact_decoder(ReplayRequest)
    asked = decoder.decode(b'{"patch":{"properties":{"n":0.1000000000000000000000001}}}')
    assert mended_event(b'{"id":"a"}', AT, Fix(patch=asked.patch)) == (
        b'{"id":"a","properties":{"n":0.1000000000000000000000001}}'
    )


def test_whose_it_is_is_said_by_the_key() -> None:
    assert mended(b'{"id":"a","tenant":"other","environment":"live"}') == '{"id":"a"}'


def test_an_event_keeps_the_identity_that_it_was_sent_with() -> None:
    original = b'{"id":"a","source":"s"}'
    assert mended(original, event='{"source":"s","type":"call"}') == '{"source":"s","type":"call","id":"a"}'
    for patch in ('{"id":"b"}', '{"source":"t"}', '{"source":null}', '{"id":7}'):
        with pytest.raises(Invalid) as raised:
            mended(original, patch=patch)
        assert raised.value.code == "replay_identity_changed"


@pytest.mark.parametrize(
    "original", [b'{"type":"call"}', b'{"id":""}', b'{"id":7}', b'{"id":"a","source":[]}', b'{"id":null}']
)
def test_an_event_without_an_identity_gets_the_one_of_its_position(original: bytes) -> None:
    assert msgspec.json.decode(mended(original, patch='{"source":"s","id":null}'))["id"] == replay_id(AT)
    assert msgspec.json.decode(mended(original, patch='{"source":"s","id":"mine"}'))["id"] == "mine"
    assert replay_id(AT) == "replay-t1-2-47-3"


@pytest.mark.parametrize("original", [b"\xff\xfe", b"", b"[1]", b'"a"', b'{"id":"a"', b'{"id":"\xff"}', b"[" * 100_000])
def test_garbage_is_replayed_only_as_a_whole_event(original: bytes) -> None:
    with pytest.raises(Invalid) as raised:
        mended(original, patch='{"customer":"acme"}')
    assert raised.value.code == "replay_unreadable"
    given = msgspec.json.decode(mended(original, event='{"type":"call","customer":"acme"}'))
    assert given == {"type": "call", "customer": "acme", "id": replay_id(AT)}


def test_no_depth_breaks_it() -> None:
    deep = '{"a":' * 900 + "1" + "}" * 900
    with pytest.raises(Invalid) as raised:
        mended(b'{"id":"a"}', patch=deep)
    assert raised.value.code == "too_deep"
    with pytest.raises(Invalid):
        mended(b'{"id":"a","properties":' + deep.replace("1", deep).encode() + b"}")


def test_a_replay_comes_as_long_after_the_receipt_as_an_event_may_be_old() -> None:
    noon = datetime(2026, 5, 1, 12, tzinfo=UTC)
    check_age(noon, noon + timedelta(seconds=3600), 3600)
    with pytest.raises(Invalid) as refused:
        check_age(noon, noon + timedelta(seconds=3600, milliseconds=1), 3600)
    assert refused.value.code == "replay_too_old"
