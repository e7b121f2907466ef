"""A file that is no model, or half of one, must be told by its bytes: the interpreter would take the whole process with it."""

import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.inference.errors import ModelError
from models.inference.model_file import check_model_file


@given(st.binary(max_size=300))
@settings(deadline=None)
def test_any_bytes_give_a_reason_and_never_another_error(data: bytes) -> None:
    with pytest.raises(ModelError) as caught:
        check_model_file(data[:4] + b"TFL3" + data[4:] if len(data) >= 4 else data, "m.tflite")
    assert caught.value.reason in ("corrupt", "not_a_model")


@pytest.mark.parametrize("data", [b"", b"TFL3", b"<!DOCTYPE html><html>404</html>", zlib.compress(b"x" * 99)])
def test_what_is_no_model_is_called_so(data: bytes) -> None:
    with pytest.raises(ModelError) as caught:
        check_model_file(data, "m.tflite")
    assert caught.value.reason == "not_a_model"
    assert "m.tflite" in str(caught.value)
