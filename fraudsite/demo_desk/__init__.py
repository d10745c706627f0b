"""The desk of the demo: a quarter of case work, done by the same services as any day's work.

`days.Desk` works through the past day by day, `today.lay_out` leaves the desk as a shift leaves it at this hour. Who
works is in `team`, what becomes of a case in `lives`, what people write in `words` and `files`.
"""
