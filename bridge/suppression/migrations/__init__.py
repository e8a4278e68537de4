"""How a database becomes what `model` says, step by step, with Alembic."""
