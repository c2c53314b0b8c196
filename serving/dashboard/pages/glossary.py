"""Page "Glossary": every word that is explained on hover, for who cannot hover or wants to read."""

from __future__ import annotations

import streamlit as st

from serving.dashboard.data.glossary import terms
from serving.dashboard.data.words import plain


def page() -> None:
    """Draw the page."""
    st.title("Glossary")
    wanted = st.text_input("Search", placeholder="a word", key="wanted word", type="search").strip().lower()
    found = [term for term in terms().values() if wanted in f"{term.word} {term.means}".lower()]
    if not found:
        st.info("No word like that is explained here.")
    for term in sorted(found, key=lambda each: each.word.lower()):
        st.markdown(f"**{plain(term.word)}**  \n{plain(term.means)}")
