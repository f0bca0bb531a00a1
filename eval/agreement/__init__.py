"""How far judges, or judges and people, agree: `python -m eval.agreement`."""
