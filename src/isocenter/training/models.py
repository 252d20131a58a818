"""Which models there are, and what is tried of each in the inner folds."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from isocenter.data.card import Task
from isocenter.errors import InputError


@dataclass(frozen=True)
class Kind:
    """One kind of model.

    Args:
        tasks: that it can do.
        build: the unfitted estimator for a task and a seed.
        grid: settings that the inner folds choose among.
        words: one line about it.
    """

    tasks: tuple[Task, ...]
    build: Callable[[Task, int], Any]
    grid: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    words: str = ""


def _logistic(task: Task, seed: int) -> Any:
    from sklearn.linear_model import ElasticNet, LogisticRegression

    if task == "regress":
        return ElasticNet(random_state=seed, max_iter=20_000)
    return LogisticRegression(max_iter=5000, class_weight="balanced", random_state=seed)


def _svm(kernel: str) -> Callable[[Task, int], Any]:
    def build(task: Task, seed: int) -> Any:
        from sklearn.svm import SVC, SVR

        return (
            SVR(kernel=kernel) if task == "regress" else SVC(kernel=kernel, class_weight="balanced", random_state=seed)
        )

    return build


def _tree(task: Task, seed: int) -> Any:
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    if task == "regress":
        return DecisionTreeRegressor(random_state=seed)
    return DecisionTreeClassifier(random_state=seed, class_weight="balanced")


def _forest(task: Task, seed: int) -> Any:
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    if task == "regress":
        return RandomForestRegressor(n_estimators=200, random_state=seed)
    return RandomForestClassifier(n_estimators=200, random_state=seed, class_weight="balanced")


def _boosting(task: Task, seed: int) -> Any:
    if task == "survive":
        from isocenter.training.boosted_hazards import BoostedHazards

        return BoostedHazards(seed=seed)
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    cls = HistGradientBoostingRegressor if task == "regress" else HistGradientBoostingClassifier
    return cls(random_state=seed, max_iter=200, early_stopping=False)


def _neighbours(task: Task, seed: int) -> Any:
    from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

    how = {"weights": "distance", "algorithm": "brute"}  # a search tree would have to be stored and trusted
    return KNeighborsRegressor(**how) if task == "regress" else KNeighborsClassifier(**how)


def _cox(task: Task, seed: int) -> Any:
    from isocenter.training.cox import CoxElasticNet

    return CoxElasticNet()


_BOTH: tuple[Task, ...] = ("classify", "regress")

MODELS: dict[str, Kind] = {
    "logistic": Kind(("classify",), _logistic, {"C": (0.01, 0.1, 1.0, 10.0)}, "logistic regression, ridge penalty"),
    "linear": Kind(("regress",), _logistic, {"alpha": (0.001, 0.01, 0.1, 1.0), "l1_ratio": (0.1, 0.9)}, "elastic net"),
    "svm": Kind(_BOTH, _svm("linear"), {"C": (0.01, 0.1, 1.0, 10.0)}, "support vectors, linear"),
    "svm-rbf": Kind(_BOTH, _svm("rbf"), {"C": (0.1, 1.0, 10.0, 100.0)}, "support vectors, radial basis"),
    "tree": Kind(_BOTH, _tree, {"max_depth": (2, 3, 4), "min_samples_leaf": (5, 10)}, "one decision tree, drawn"),
    "forest": Kind(_BOTH, _forest, {"min_samples_leaf": (1, 3, 8)}, "random forest"),
    "boosting": Kind((*_BOTH, "survive"), _boosting, {"learning_rate": (0.03, 0.1)}, "gradient boosting"),
    "knn": Kind(_BOTH, _neighbours, {"n_neighbors": (3, 7, 15)}, "nearest neighbours"),
    "cox": Kind(("survive",), _cox, {"alpha": (0.0, 0.01, 0.05, 0.2), "mixing": (0.5,)}, "Cox, elastic net"),
}

AUTO: dict[Task, tuple[str, ...]] = {
    "classify": ("logistic", "svm-rbf", "forest", "boosting"),
    "regress": ("linear", "svm-rbf", "forest", "boosting"),
    "survive": ("cox",),
}
"""What `auto` chooses among, in the inner folds."""


def kinds_for(name: str, task: Task) -> dict[str, Kind]:
    """The kinds that a name stands for.

    Raises: InputError for a name that is none, or cannot do the task.
    """
    if name == "auto":
        return {kind: MODELS[kind] for kind in AUTO[task]}
    fit = [kind for kind, row in MODELS.items() if task in row.tasks]
    if name not in MODELS or task not in MODELS[name].tasks:
        raise InputError(f"--model {name}: to {task} there are auto, {', '.join(fit)}")
    return {name: MODELS[name]}
