"""Visual extraction tuning: scenes with ground truth, training, evaluation, the mini model."""
