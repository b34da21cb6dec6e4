"""Choosing actions with a world model.

Reading order: ``protocols`` (what a model must offer), ``bounds``, ``optimizers.base`` and
``optimizers.cem`` (init / ask / tell over explicit state), ``costs.base`` and one cost, ``scoring``
(chunks, deadline), ``planner`` (one plan), ``goals``, ``drive`` and ``mpc`` (the closed loop).

A new optimiser is a file in ``optimizers`` with two methods, ``_sample`` and ``_update``, and a
line in its ``OPTIMIZERS``. A new cost is a file in ``costs`` with a frozen dataclass whose call
returns one number a candidate; it asks the context for what it needs, and nothing else is computed.
It is chosen by name once it has settings in ``costs.settings`` and a function in ``costs.compose``.
"""
