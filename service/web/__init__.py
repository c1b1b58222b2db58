"""The search page: plain HTML, CSS and JavaScript, and how they are joined and served."""
