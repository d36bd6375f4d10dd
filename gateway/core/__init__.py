"""Core: owns the ledger and the catalog, makes every decision, answers after COMMIT."""
