"""The dashboards: one module a page, each building figures, charts and tables from roll-ups and indexes only."""
