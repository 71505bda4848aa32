"""What runs cases and keeps their records: runner, store, cluster, and where and how long a case ran."""
