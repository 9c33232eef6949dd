"""Classifier and Regressor among scikit-learn's own."""

import pickle

import numpy as np
import pytest

sklearn = pytest.importorskip("sklearn")

from sklearn.datasets import load_iris  # noqa: E402
from sklearn.model_selection import GridSearchCV, cross_val_score  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402
from sklearn.utils.estimator_checks import check_estimator  # noqa: E402

from fastact import nn  # noqa: E402


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("make", [nn.Classifier, nn.Regressor])
def test_passes_the_checks_of_scikit_learn(make):
    results = check_estimator(make(), on_skip=None, on_fail="raise")
    assert len(results) > 40 and all(result["status"] != "failed" for result in results)


def test_classifier_in_a_pipeline_and_a_search():
    x, y = load_iris(return_X_y=True)
    names = np.array(["setosa", "versicolor", "virginica"])[y]
    pipeline = make_pipeline(StandardScaler(), nn.Classifier((8,), "gelu", epochs=30, random_state=0))
    assert cross_val_score(pipeline, x, names, cv=3).mean() > 0.9
    search = GridSearchCV(
        nn.Classifier(epochs=20, random_state=0), {"hidden": [(), (8, 8)], "activation": ["tanh", "prelu"]}, cv=2
    )
    assert search.fit(x, names).score(x, names) > 0.9
    assert set(search.predict(x)) <= set(names)
    np.testing.assert_allclose(search.predict_proba(x).sum(axis=1), 1, rtol=1e-12)


def test_regressor(rng):
    x = rng.standard_normal((300, 2))
    y = np.stack([x[:, 0] ** 2, 100 + 50 * x[:, 1]], axis=1)
    model = nn.Regressor((32, 32), "tanh", epochs=150, random_state=0).fit(x, y)
    assert model.score(x, y) > 0.98 and model.predict(x).shape == (300, 2)
    assert nn.Regressor((16,), epochs=50, random_state=0).fit(x, y[:, 1]).predict(x).shape == (300,)


def test_stops_early_and_reproduces(rng):
    x = rng.standard_normal((200, 3))
    y = (x[:, 0] > 0).astype(int)
    models = [nn.Classifier((16,), patience=3, epochs=500, random_state=1).fit(x, y) for _ in range(2)]
    assert models[0].n_iter_ < 500 and "val_loss" in models[0].history_
    assert models[0].predict_proba(x).tobytes() == models[1].predict_proba(x).tobytes()
    assert pickle.loads(pickle.dumps(models[0])).predict_proba(x).tobytes() == models[0].predict_proba(x).tobytes()


def test_computes_in_the_precision_of_the_inputs(rng):
    x, y = rng.standard_normal((50, 3)), rng.integers(0, 2, 50)
    assert nn.Classifier(epochs=1).fit(x, y).model_.dtype == np.float64
    assert nn.Classifier(epochs=1).fit(x.astype(np.float32), y).model_.dtype == np.float32
