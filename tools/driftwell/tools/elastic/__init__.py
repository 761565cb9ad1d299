"""The bench of elastic modules: label-skewed devices with budgets, and what serves them best."""
