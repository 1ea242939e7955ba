"""How fast Syndicate is: measured, never tested. ``make bench`` runs it; see `bench.run`."""
