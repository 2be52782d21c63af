"""The page that Streamlit runs: who may enter, which run, which view. Started by `identrix app`, never imported."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

_HERE = str(Path(__file__).parent)


def main() -> None:
    """Draw the page once; Streamlit calls it again after every click."""
    sys.path[:] = [p for p in sys.path if p != _HERE]  # Streamlit puts it first: our files would hide others' modules
    import streamlit as st

    from pipeline import app_views
    from pipeline.app_data import AppError, runs_of
    from pipeline.app_start import FOLDER

    st.set_page_config("Identrix", page_icon="🧭", layout="wide")
    st.html(app_views.STYLE)
    user = _user()
    if user is None:
        return
    try:
        runs = runs_of(Path(os.environ.get(FOLDER, "runs")))
    except AppError as error:
        st.error(str(error))
        return
    app_views.show(st, runs, user)


def _user() -> str | None:
    """Who looks: after the password where there is one, else the user of this machine."""
    import streamlit as st

    from pipeline.app_start import PASSWORD, may_enter
    from pipeline.corrections import os_user

    if "user" in st.session_state:
        return str(st.session_state["user"])
    if not os.environ.get(PASSWORD):
        st.session_state["user"] = os_user()
        return os_user()
    st.title("Identrix")
    with st.form("login"):
        name = st.text_input("Your name", help="it stands in the audit log and beside your corrections")
        password = st.text_input("Password", type="password")
        sent = st.form_submit_button("Enter", type="primary")
    if sent and not name.strip():
        st.error("Please say who you are: what you look at and change is logged.")
    elif sent and not may_enter(password):
        time.sleep(1.0)  # guessing takes its time
        st.error("This is not the password.")
    elif sent:
        st.session_state["user"] = name.strip()[:64]
        st.rerun()
    return None


if __name__ == "__main__":
    main()
