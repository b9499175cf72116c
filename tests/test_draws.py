import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from podium.config import DataConfig
from podium.draws import draw_order, draw_train


def make_table(labels: list[int]) -> pd.DataFrame:
    ids = [f"{row:04d}" for row in range(len(labels))]
    return pd.DataFrame({"id": ids, "path": ids, "label": list(map(str, labels))})


tables = st.lists(st.integers(0, 4), min_size=10, max_size=60).map(make_table)


@given(tables, st.integers(0, 3), st.randoms())
def test_a_draw_does_not_depend_on_the_order_of_rows(table, seed, random):
    order = list(range(len(table)))
    random.shuffle(order)
    turned = table.iloc[order].reset_index(drop=True)
    plain = table["id"].iloc[draw_order(table, seed)].tolist()
    assert turned["id"].iloc[draw_order(turned, seed)].tolist() == plain


@given(tables, st.integers(10, 60))
def test_a_limit_keeps_every_class_and_its_share(table, limit):
    drawn = draw_train(table, DataConfig(limit=limit), 0)
    assert len(drawn) == min(limit, len(table))
    assert not drawn["id"].duplicated().any()
    assert set(drawn["label"]) == set(table["label"])
    if limit < len(table):
        expected = table["label"].value_counts() * limit / len(table)
        drawn_sizes = drawn["label"].value_counts().reindex(expected.index)
        assert np.abs(drawn_sizes - expected).max() <= len(expected)


def test_images_with_several_labels_are_drawn_by_what_they_show_together():
    names = [("a",), ("a", "b"), (), ("b",)] * 5
    table = pd.DataFrame({"id": list(map(str, range(20))), "label": pd.Series(names, dtype=object)})
    first = table["label"].iloc[draw_order(table, 0)][:4]
    assert set(first) == set(names)
    assert set(draw_train(table, DataConfig(limit=10), 0)["label"]) == set(names)


def test_a_limit_keeps_a_class_with_one_image():
    table = make_table([0] * 15 + [1])
    assert set(draw_train(table, DataConfig(limit=10), 0)["label"]) == {"0", "1"}
