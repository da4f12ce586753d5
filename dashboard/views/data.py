"""Data: send files, see what became of them, and what the jobs are doing."""

import streamlit as st

from dashboard.intake.batches import batches_panel
from dashboard.intake.jobs import jobs_panel
from dashboard.intake.running import running_panel
from dashboard.intake.upload import upload_panel
from dashboard.runtime import current
from store import batches, job_runs

_UPLOAD, _BATCHES, _JOBS = "Upload", "Batches and rejects", "Jobs"

runtime = current()
st.title("Data")

failing = job_runs.failing(runtime.store)
for row in failing.to_dicts():
    st.error(f"Job {row['job']} fails. See the Jobs tab.", icon=":material/error:")
recent = batches.recent(runtime.store, limit=1)
if not recent.is_empty():
    last = recent.to_dicts()[0]
    st.caption(f"Last load: batch {last['batch_id']}, {last['received_at']:%Y-%m-%d %H:%M} UTC, {last['state']}.")

upload, loaded, jobs = st.tabs([_UPLOAD, _BATCHES, _JOBS], key="tab", on_change="rerun", bind="query-params")
if upload.open:
    with upload:
        upload_panel(runtime)
        running_panel(runtime)
        with st.expander("Other ways in"):
            st.caption("Put files into the inbox folder; the name of a subfolder becomes the source:")
            st.code(str(runtime.settings.inbox.resolve()), language=None)
            st.caption("Or use the command line, for files of any size:")
            st.code(f"python -m pipelines ingest FILE --db {runtime.settings.db}", language=None)
if loaded.open:
    with loaded:
        batches_panel(runtime)
if jobs.open:
    with jobs:
        jobs_panel(runtime)
