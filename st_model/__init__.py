"""Space-time: transition tables, joint score, online matcher, Redis store.

The decision core needs only NumPy and SciPy; `store` adds redis. Nothing here imports the other rooms.
"""
