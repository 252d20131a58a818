"""Metrics and intervals: published software's values, hand-computed ones, laws, refusals."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocenter.errors import DegenerateImage, InputError
from isocenter.metrics import agreement, decision, intervals, reliability, survival
from isocenter.metrics.decision import Confusion
from isocenter.training.cox import CoxElasticNet


def breast() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Malignancy, two scores, and a probability, from scikit-learn's table."""
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    names = list(data.feature_names)
    texture = data.data[:, names.index("mean texture")]
    return (
        (data.target == 0).astype(int),
        texture,
        data.data[:, names.index("mean smoothness")],
        1 / (1 + np.exp(-(texture - 19.3) / 4.3)),
    )


def heart() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Stanford heart transplants of statsmodels; a thousandth of a day a row parts equal times."""
    from statsmodels.datasets import heart as data

    table = data.load_pandas().data
    time = table["survival"].to_numpy() + 0.001 * np.arange(len(table))
    return time, table["censors"].to_numpy().astype(int), table["age"].to_numpy()


class TestAgainstOthers:
    """R 4.2.2 with pROC 1.18, survival 3.5.3 and riskRegression 2022.11.28; scikit-survival 0.28; computed once there."""

    def test_areas_with_proc(self) -> None:
        truth, one, other, _ = breast()
        areas, covariance = decision.auc_covariance(truth, [one, other])
        assert areas == pytest.approx([0.775824480736, 0.722041646847], abs=1e-11)
        assert covariance[0, 0] == pytest.approx(0.00038944311332828, abs=1e-12)
        assert covariance[0, 1] == pytest.approx(-7.18348825778001e-05, abs=1e-12)

    def test_calibration_with_glm(self) -> None:
        truth, _, _, p = breast()
        intercept, slope = decision.calibration_line(truth, p)
        assert intercept == pytest.approx(-0.596168996869, abs=1e-6)
        assert slope == pytest.approx(1.008954489075, abs=1e-6)

    def test_survival(self) -> None:
        time, event, age = heart()
        model = CoxElasticNet(alpha=0.0).fit(age[:, None], np.column_stack((time, event)))
        at = np.asarray([50.0, 200.0, 600.0])
        share = model.survival(age[:, None], at)
        assert model.coef_[0] == pytest.approx(0.054594491358, abs=1e-6)
        assert survival.harrell_c(time, event, age) == pytest.approx(0.609195402298851, abs=1e-12)
        assert survival.uno_c(time, event, age) == pytest.approx(0.620856400757012, abs=1e-12)
        assert survival.uno_c(time, event, age, until=600.0) == pytest.approx(0.6049692459237872, abs=1e-12)
        areas = [survival.dynamic_auc(time, event, age, float(t)) for t in at]
        assert areas == pytest.approx([0.580128961227, 0.650479963769, 0.667371495483], abs=1e-9)
        errors = [survival.brier_at(time, event, share[:, i], float(t)) for i, t in enumerate(at)]
        assert errors == pytest.approx([0.180447013488, 0.231571937338, 0.228557816773], abs=1e-6)

    def test_curves(self) -> None:
        time, event, age = heart()
        curve = survival.kaplan_meier(time, event)
        assert curve.at(np.asarray([50.0, 200, 600])) == pytest.approx([0.761072409676, 0.515883676613, 0.410862285115])
        last = np.searchsorted(curve.times, 600.0, side="right") - 1
        assert (curve.low[last], curve.high[last]) == pytest.approx((0.288228703076, 0.529397043821), abs=1e-9)
        assert survival.log_rank(time, event, age > 45)[0] == pytest.approx(1.230109852838, abs=1e-9)

    def test_precision_and_brier_with_scikit_learn(self) -> None:
        from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

        truth, one, _, p = breast()
        assert decision.average_precision(truth, one) == pytest.approx(average_precision_score(truth, one), abs=1e-12)
        assert decision.brier(truth, p) == pytest.approx(brier_score_loss(truth, p), abs=1e-12)
        assert decision.auc(truth, np.round(one)) == pytest.approx(roc_auc_score(truth, np.round(one)), abs=1e-12)


class TestByHand:
    def test_confusion(self) -> None:
        truth = np.asarray([1, 1, 1, 1, 0, 0, 0, 0, 0, 0])
        decided = np.asarray([1, 1, 1, 0, 1, 0, 0, 0, 0, 0])
        found = Confusion.of(truth, decided).metrics()
        assert found["recall"] == 0.75
        assert found["specificity"] == pytest.approx(5 / 6)
        assert found["precision"] == 0.75
        assert found["mcc"] == pytest.approx((3 * 5 - 1 * 1) / np.sqrt(4 * 4 * 6 * 6))
        assert "precision" not in Confusion.of(truth, np.zeros(10, int)).metrics()

    def test_wilson(self) -> None:
        """E. Wilson's interval of 81 in 263, as in R. Newcombe, Stat. Med. 17:857-872, 1998: .2553 to .3662."""
        assert intervals.wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
        assert intervals.wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)

    def test_predictive_values_elsewhere(self) -> None:
        ppv, npv = decision.at_prevalence(0.9, 0.8, 0.1)
        assert ppv == pytest.approx(0.09 / 0.27)
        assert npv == pytest.approx(0.72 / 0.73)

    def test_holm(self) -> None:
        assert intervals.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])

    def test_intraclass_correlations_of_shrout_and_fleiss(self) -> None:
        """Table 2 and 4 of P. Shrout and J. Fleiss, Psychol. Bull. 86:420-428, 1979: .17 and .29."""
        ratings = np.asarray(
            [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], float
        )
        assert agreement.icc_one_way(ratings).value == pytest.approx(0.17, abs=0.005)
        found = agreement.icc_agreement(ratings)
        assert found.value == pytest.approx(0.29, abs=0.005)
        assert (found.low, found.high) == pytest.approx((0.02, 0.76), abs=0.005)
        with pytest.raises(InputError):
            agreement.icc_one_way(ratings[:1])

    def test_conformal_rank(self) -> None:
        assert reliability.conformal_quantile(np.arange(1.0, 10.0), 0.9) == 9.0
        assert reliability.conformal_quantile(np.arange(1.0, 9.0), 0.9) == float("inf")


class TestLaws:
    @given(st.integers(0, 10_000))
    def test_an_area_does_not_care_for_the_scale(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        truth, scores = np.r_[np.zeros(8, int), np.ones(7, int)], rng.integers(0, 5, 15).astype(float)
        assert decision.auc(truth, scores) == pytest.approx(decision.auc(truth, np.exp(scores)))
        assert decision.auc(truth, scores) == pytest.approx(1 - decision.auc(truth, -scores))
        pairs = [(a > b) + 0.5 * (a == b) for a in scores[truth == 1] for b in scores[truth == 0]]
        assert decision.auc(truth, scores) == pytest.approx(np.mean(pairs))

    @given(st.integers(0, 10_000))
    def test_patients_with_one_case_each_are_no_clusters(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        truth, scores = rng.permutation(np.r_[np.zeros(9, int), np.ones(8, int)]), rng.normal(size=17)
        plain = decision.auc_covariance(truth, [scores])[1]
        clustered = decision.auc_covariance(truth, [scores], np.arange(17))[1]
        assert clustered == pytest.approx(plain, rel=1e-6)

    def test_repeating_every_case_does_not_narrow_the_interval(self) -> None:
        rng = np.random.default_rng(0)
        truth = rng.integers(0, 2, 60)
        scores = rng.normal(size=60) + truth
        patients = np.arange(60)
        once = decision.auc_covariance(truth, [scores], patients)[1][0, 0]
        thrice = decision.auc_covariance(np.tile(truth, 3), [np.tile(scores, 3)], np.tile(patients, 3))[1][0, 0]
        assert thrice == pytest.approx(once, rel=1e-6)
        one, three = (intervals.proportion(np.tile(truth, k).astype(float), np.tile(patients, k)) for k in (1, 3))
        assert three.high - three.low == pytest.approx(one.high - one.low, rel=0.02)

    def test_the_interval_of_an_area_covers(self) -> None:
        """Clustered data: of 300 intervals about 95 % hold the truth; those that take cases for patients do not."""
        rng = np.random.default_rng(1)
        right = naive = 0
        for _ in range(300):
            patients = np.repeat(np.arange(40), 5)
            truth = np.repeat(rng.integers(0, 2, 40), 5)
            if not 3 < truth.reshape(40, 5)[:, 0].sum() < 37:
                continue
            scores = truth + np.repeat(rng.normal(0, 1, 40), 5) + rng.normal(0, 0.3, 200)
            true_area = 0.7512  # of a difference of 1 with a deviation of sqrt(1.09) on each side: Phi(1 / sqrt(2.18))
            for groups in (patients, None):
                area, variance = decision.auc_covariance(truth, [scores], groups)
                inside = abs(area[0] - true_area) <= 1.96 * np.sqrt(variance[0, 0])
                right += inside and groups is not None
                naive += inside and groups is None
        assert right > 0.9 * 295
        assert naive < 0.75 * 295

    def test_patients_with_both_classes(self) -> None:
        """Lesions of one patient share what is his: the mean variance is that of the areas themselves."""
        rng = np.random.default_rng(2)
        patients = np.repeat(np.arange(80), 4)
        truth = np.tile([0, 0, 1, 1], 80)
        areas, variances = [], []
        for _ in range(300):
            scores = truth + np.repeat(rng.normal(0, 2, 80), 4) + rng.normal(0, 0.7, 320)
            area, variance = decision.auc_covariance(truth, [scores], patients)
            areas.append(area[0])
            variances.append(variance[0, 0])
        assert np.sqrt(np.mean(variances)) == pytest.approx(np.std(areas), rel=0.15)

    def test_conformal_sets_cover_exchangeable_data_in_every_class(self) -> None:
        rng = np.random.default_rng(0)
        covered = {0: [], 1: []}
        for _ in range(200):
            truth = (rng.random(400) < 0.2).astype(int)
            p = 1 / (1 + np.exp(-(rng.normal(size=400) + 2 * truth - 1)))
            scores = np.column_stack((1 - p, p))
            quantiles = reliability.class_quantiles(truth[:200], scores[:200], 0.9)
            inside = reliability.prediction_sets(scores[200:], quantiles)[np.arange(200), truth[200:]]
            for k in (0, 1):
                covered[k].append(inside[truth[200:] == k].mean())
        for k in (0, 1):
            assert 0.89 <= np.mean(covered[k]) <= 0.94

    def test_a_shift_is_told_and_none_is_not(self) -> None:
        rng = np.random.default_rng(0)
        one, other = rng.normal(size=(200, 2)), rng.normal(size=(200, 2))
        labels = rng.integers(0, 2, 200), rng.integers(0, 2, 200)
        assert reliability.looks_exchangeable(one, other, labels)["exchangeable"]
        assert not reliability.looks_exchangeable(one, other + 0.6, labels)["exchangeable"]
        assert not reliability.looks_exchangeable(one, other, (labels[0], np.r_[np.ones(160, int), np.zeros(40, int)]))[
            "exchangeable"
        ]

    def test_the_brier_score_is_its_parts(self) -> None:
        truth, _, _, p = breast()
        p = np.round(p, 1)  # equal within bins but for their edges
        parts = decision.brier_parts(truth, p, bins=200)
        whole = parts["reliability"] - parts["resolution"] + parts["uncertainty"]
        assert whole == pytest.approx(decision.brier(truth, p), abs=2e-3)

    def test_calibration_takes_overconfidence_back(self) -> None:
        rng = np.random.default_rng(0)
        odds = rng.normal(0, 1, 4000)
        truth = (rng.random(4000) < 1 / (1 + np.exp(-odds))).astype(int)
        bold = 1 / (1 + np.exp(-3 * odds))
        how = {"method": "platt", **reliability.platt(truth[:2000], bold[:2000])}
        fair = reliability.calibrated(np.column_stack((1 - bold, bold))[2000:], how)[:, 1]
        assert decision.calibration_line(truth[2000:], bold[2000:])[1] == pytest.approx(1 / 3, abs=0.05)
        assert decision.calibration_line(truth[2000:], fair)[1] == pytest.approx(1, abs=0.15)
        scores = np.column_stack((1 - bold, bold))
        heat = reliability.temperature(truth, scores)["temperature"]
        assert heat == pytest.approx(3, rel=0.1)


class TestRefusals:
    def test_too_few_patients_for_a_bootstrap(self) -> None:
        truth = np.r_[np.zeros(30, int), np.ones(15, int)]
        found, draws = intervals.bootstrap(lambda i: float(truth[i].mean()), np.arange(45), truth)
        assert found.low is None
        assert "15 patients" in found.note
        assert not len(draws)

    def test_a_calibration_would_turn_no_answers_round(self) -> None:
        truth = np.repeat((1, 0), 50)
        falling = np.r_[np.linspace(0.1, 0.6, 50), np.linspace(0.4, 0.9, 50)]
        with pytest.raises(DegenerateImage, match="less often"):
            reliability.platt(truth, falling)
        assert reliability.platt(truth, 1 - falling)["slope"] > 0

    def test_one_class(self) -> None:
        with pytest.raises(DegenerateImage, match="one class"):
            decision.auc(np.ones(5, int), np.arange(5.0))

    def test_isotonic_needs_a_thousand(self) -> None:
        with pytest.raises(InputError, match="1000"):
            reliability.isotonic(np.r_[0, 1], np.r_[0.1, 0.9])

    def test_perfect_probabilities_have_no_slope(self) -> None:
        truth = np.r_[np.zeros(20, int), np.ones(20, int)]
        with pytest.raises(DegenerateImage, match="without a fault"):
            decision.calibration_line(truth, np.where(truth == 1, 0.9, 0.1) + np.linspace(0, 0.01, 40))

    def test_events_that_are_none(self) -> None:
        with pytest.raises(InputError, match="competing"):
            survival.require_events(np.asarray([1.0, 2.0]), np.asarray([1, 2]))
        with pytest.raises(DegenerateImage):
            survival.require_events(np.asarray([1.0, 2.0]), np.asarray([0, 0]))

    def test_the_smallest_visible_difference(self) -> None:
        assert intervals.smallest_visible(0.02) == pytest.approx(0.02 * (1.959964 + 0.841621), abs=1e-6)
