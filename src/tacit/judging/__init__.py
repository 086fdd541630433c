"""Quality without labels, streaming and mergeable over ranks. May import systems and what lies below."""
