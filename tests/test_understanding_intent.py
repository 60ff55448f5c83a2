import subprocess
import sys

import numpy as np
import pytest

from recsys.errors import NotFoundError
from recsys.understanding.intent import IntentClassifier
from tests.test_classifier import TEST, TEXTS, trained  # noqa: F401
from tests.test_encoders import tiny  # noqa: F401


@pytest.fixture
def classifier(trained):  # noqa: F811
    return IntentClassifier(trained[0])


def test_the_class_and_its_probability(classifier):
    answers = classifier.classify(TEST)
    assert [name for name, _ in answers] == ["tool"] * 4 + ["furniture"] * 2 + ["light"] * 2
    probabilities_NC = classifier.probabilities(TEST)
    assert [probability for _, probability in answers] == pytest.approx(
        probabilities_NC.max(axis=1)
    )
    np.testing.assert_allclose(probabilities_NC.sum(axis=1), 1, atol=1e-5)


def test_below_the_threshold_it_is_none_of_these(classifier):
    classifier.threshold = 1.1
    assert [name for name, _ in classifier.classify(TEST)] == [None] * 8
    classifier.threshold = 0.0
    assert None not in [name for name, _ in classifier.classify(["oak", *TEST])]


@pytest.mark.parametrize("text", ["", "   ", "😀😀", "?!", "\x00\x07"])
def test_nothing_to_classify(classifier, text):
    classifier.threshold = 0.0
    assert classifier.classify(["red saw a", text])[1] == (None, 0.0)


def test_long_texts_and_no_texts(classifier):
    assert classifier.classify([]) == []
    assert classifier.probabilities([]).shape == (0, 3)
    assert classifier.classify(["saw " * 2_500])[0][0] == "tool"


def test_a_temperature_changes_how_sure_not_what(classifier):
    warm = IntentClassifier(classifier.folder)
    warm.temperature = classifier.temperature * 10
    cold_NC, warm_NC = classifier.probabilities(TEXTS), warm.probabilities(TEXTS)
    assert (cold_NC.argmax(axis=1) == warm_NC.argmax(axis=1)).all()
    assert cold_NC.max(axis=1).mean() > warm_NC.max(axis=1).mean()


def test_it_does_not_matter_what_stands_beside(classifier):
    together = classifier.probabilities(TEXTS)
    np.testing.assert_allclose(together[5:6], classifier.probabilities(TEXTS[5:6]), atol=1e-5)


def test_a_folder_without_a_classifier(tmp_path):
    with pytest.raises(NotFoundError, match=r"no labels\.json"):
        IntentClassifier(tmp_path)


def test_making_one_loads_no_torch(trained):  # noqa: F811
    code = (
        "import sys; from recsys.understanding.intent import IntentClassifier\n"
        f"assert IntentClassifier({str(trained[0])!r}).classes\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
