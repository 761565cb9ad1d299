"""A recorded run again, with other settings: variants side by side."""
