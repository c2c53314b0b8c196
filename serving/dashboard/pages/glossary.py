"""Page "Glossary": every term that pages explain on hover."""

import streamlit as st

from serving.dashboard.data.words import means, plain, terms


def page() -> None:
    """Draw the page."""
    st.title("Glossary")
    wanted = st.text_input("Search", placeholder="a word", key="wanted word", type="search").strip().lower()
    found = [(term["word"], means(key)) for key, term in terms().items()]
    found = [each for each in found if wanted in " ".join(each).lower()]
    if not found:
        st.info("No word like that is explained here.")
    for word, text in sorted(found, key=lambda each: each[0].lower()):
        st.markdown(f"**{plain(word)}**  \n{plain(text)}")
