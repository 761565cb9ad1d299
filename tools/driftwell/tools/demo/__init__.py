"""`driftwell demo`: a small fleet in bad weather, on one machine, in about a minute."""
