"""Execute notebooks and publish them: full-budget runs, the website, slide decks."""
