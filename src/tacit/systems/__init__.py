"""The wiring of a method: which embedding meets which. May import models, objectives and what lies below."""
