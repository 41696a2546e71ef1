"""The encoder of patient metadata: columns by hand, missing values, feature dropout."""

import itertools
import json

import jax
import numpy as np
import pytest

from skinjax.config import default_config
from skinjax.data import metadata
from skinjax.data.metadata import Encoder
from skinjax.errors import InputError


def row(age=None, sex="", site=""):
    return {"age": age, "sex": sex, "site": site, "label": "nv"}


TRAINING = [
    row(40.0, "male", "back"),
    row(60.0, "female", "face"),
    row(None, "male", "back"),
    row(50.0, "unknown", ""),
]


def make_settings(*features, **fields):
    settings = default_config().metadata
    settings.update({"features": features, **fields})
    return settings


def fit(*features, rows=TRAINING):
    return metadata.fit(make_settings(*features), rows)


def test_columns_by_hand():
    encoder = fit("age", "sex", "site")
    assert encoder.names == (
        "age", "age missing", "sex female", "sex male", "sex missing", "site back", "site face",
        "site missing",
    )  # fmt: skip
    assert encoder.sizes == (2, 3, 3)
    encoded_NM = encoder.encode(TRAINING)
    assert encoded_NM.dtype == np.float32
    std = np.sqrt(200 / 3)  # of 40, 50 and 60
    np.testing.assert_allclose(
        encoded_NM,
        [
            [-10 / std, 0, 0, 1, 0, 1, 0, 0],
            [10 / std, 0, 1, 0, 0, 0, 1, 0],
            [0, 1, 0, 1, 0, 1, 0, 0],
            [0, 0, 0, 0, 1, 0, 0, 1],
        ],
        rtol=1e-6,
    )


def test_features_are_in_the_order_of_the_config():
    encoder = fit("sex", "age")
    assert encoder.names == ("sex female", "sex male", "sex missing", "age", "age missing")
    assert encoder.encode(TRAINING[2:3]).tolist() == [[0, 1, 0, 0, 1]]


@pytest.mark.parametrize("value", ["other", "", "unknown", "Unknown", "nan", " "])
def test_what_training_did_not_have_is_missing(value):
    encoded_NM = fit("sex", "site").encode([row(sex=value, site=value)])
    assert encoded_NM.tolist() == [[0, 0, 1, 0, 0, 1]]


@pytest.mark.parametrize("value", ["Male", " male", "MALE "])
def test_case_and_spaces_do_not_matter(value):
    assert fit("sex").encode([row(sex=value)]).tolist() == [[0, 1, 0]]
    assert fit("sex", rows=[*TRAINING, row(sex=value)]).names == fit("sex").names


def test_a_missing_age_is_not_the_mean_nor_zero_years():
    missing, mean, zero = fit("age").encode([row(None), row(50.0), row(0.0)]).tolist()
    assert missing == [0, 1]
    assert mean == [0, 0]
    assert zero[0] < -5
    assert fit("age").encode([row(float("nan"))]).tolist() == [[0, 1]]


def test_one_age_only_is_finite():
    encoder = fit("age", rows=[row(50.0), row(50.0)])
    assert encoder.encode([row(50.0), row(52.0)]).tolist() == [[0, 0], [2, 0]]


def test_only_the_rows_given_are_fitted_on():
    encoder = fit("age", "site", rows=TRAINING[:2])
    assert encoder.features[0].std == 10
    before = encoder.to_json()
    encoder.encode([row(90.0, "male", "scalp")])
    assert encoder.to_json() == before


def test_no_rows_have_their_columns():
    assert fit("age", "sex").encode([]).shape == (0, 5)


def test_json_there_and_back():
    encoder = fit("age", "sex", "site")
    copy = Encoder.from_json(json.dumps(json.loads(encoder.to_json())))
    assert copy == encoder
    assert hash(copy) == hash(encoder)
    np.testing.assert_array_equal(copy.encode(TRAINING), encoder.encode(TRAINING))


@pytest.mark.parametrize("text", ["", "{", "3", '["age"]', '[{"name": "age"}]', '[{"values": []}]'])
def test_other_json_is_one_clear_line(text):
    with pytest.raises(InputError, match="encoder of patient metadata can't be read") as caught:
        Encoder.from_json(text)
    assert "\n" not in str(caught.value)


def test_without_features_there_is_no_encoder():
    assert fit() is None


def test_fitting_checks_the_settings():
    with pytest.raises(InputError, match="gives the label away"):
        fit("dx_type", rows=[{"dx_type": "histo"}])


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("age", [row(None, "male"), row(float("nan"), "male")]),
        ("sex", [row(40.0), row(50.0, "unknown")]),
        ("site", [row(40.0, "male")]),
    ],
)
def test_a_data_set_without_the_feature_is_refused(name, rows):
    message = f"all values of {name} are missing in the {len(rows)} training records"
    with pytest.raises(InputError, match=message):
        fit(name, rows=rows)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"features": ("age", "dx_type")}, "'dx_type', which gives the label away"),
        ({"features": ("ages",)}, r"'ages'; expected some of age, sex, site; did you mean age\?"),
        ({"features": ("age", "sex", "age")}, "name each once"),
        ({"features": ("age",), "width": 0}, "metadata.width is 0"),
        ({"features": ("age",), "dropout": 1.0}, "metadata.dropout is 1.0"),
        ({"features": ("age",), "dropout": -0.1}, "metadata.dropout is -0.1"),
        ({"features": ("age",), "dropout": float("nan")}, "metadata.dropout is nan"),
    ],
)
def test_wrong_settings_are_one_clear_line(fields, message):
    with pytest.raises(InputError, match=message) as caught:
        metadata.check(make_settings(**{"features": (), **fields}))
    assert "\n" not in str(caught.value)


def drop(metadata_BM, sizes, rate, seed=0):
    key_B = jax.random.split(jax.random.key(seed), len(metadata_BM))
    dropped = jax.jit(metadata.drop_features, static_argnames=("sizes", "rate"))
    return np.asarray(dropped(metadata_BM, key_B, sizes=sizes, rate=rate))


def test_dropout_drops_whole_features_as_the_encoder_encodes_missing_ones():
    encoder = fit("age", "sex", "site")
    metadata_BM = np.repeat(encoder.encode(TRAINING[:1]), 4000, axis=0)
    dropped_BM = drop(metadata_BM, encoder.sizes, 0.25)
    missing_M = encoder.encode([row()])[0]
    edges = np.cumsum([0, *encoder.sizes])
    gone_BF = np.zeros((4000, 3), bool)
    for f, (start, stop) in enumerate(itertools.pairwise(edges)):
        part_BM = dropped_BM[:, start:stop]
        gone_BF[:, f] = (part_BM == missing_M[start:stop]).all(axis=1)
        kept_BM = part_BM[~gone_BF[:, f]]
        assert (kept_BM == metadata_BM[0, start:stop]).all()
    # Each by itself: 0.25 with a standard deviation of 0.007, two at once 0.0625 with 0.004.
    np.testing.assert_allclose(gone_BF.mean(axis=0), 0.25, atol=0.03)
    for f, g in ((0, 1), (0, 2), (1, 2)):
        assert abs((gone_BF[:, f] & gone_BF[:, g]).mean() - 0.0625) < 0.02


def test_dropout_of_rate_zero_changes_nothing():
    encoder = fit("age", "sex")
    metadata_BM = encoder.encode(TRAINING)
    np.testing.assert_array_equal(drop(metadata_BM, encoder.sizes, 0.0), metadata_BM)


def test_dropout_depends_on_an_example_s_own_key():
    encoder = fit("age", "sex", "site")
    metadata_BM = np.repeat(encoder.encode(TRAINING[:1]), 32, axis=0)
    key_B = jax.random.split(jax.random.key(3), 32)
    args = {"sizes": encoder.sizes, "rate": 0.5}
    whole_BM = np.asarray(metadata.drop_features(metadata_BM, key_B, **args))
    half_BM = np.asarray(metadata.drop_features(metadata_BM[16:], key_B[16:], **args))
    np.testing.assert_array_equal(whole_BM[16:], half_BM)
    assert (whole_BM != drop(metadata_BM, encoder.sizes, 0.5, seed=4)).any()
