"""What exposure costs: regularizers at several weights, beside a constant score bonus."""
