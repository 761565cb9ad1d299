"""Models made of interchangeable modules, and the sub-models derived from them (ECLM / Nebula)."""
