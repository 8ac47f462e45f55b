"""Room on disk: what a build needs."""

from edge_et.export.building.disk_space import ModelSize, build_bytes


def test_disk_space_is_that_of_the_largest_step() -> None:
    perceiver = ModelSize(parameters=100, tower_parameters=50)
    reasoner = ModelSize(parameters=300, tower_parameters=0)
    # Float tower beside float tower; then F16 beside what is kept.
    assert build_bytes([perceiver], 2.0, 4.0) == 200 + 200 + 200
    assert build_bytes([perceiver, reasoner], 0.5, 1.0) == 50 + 50 + 150 + 600
